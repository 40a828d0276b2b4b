#!/usr/bin/env bash
# Make a container image from a server binary of this machine, with no registry.
#
#   build.sh IMAGE SERVER [TOOL...]
#
# The image holds SERVER (as the name it has here), the TOOLs, /bin/sh, and every
# library that ldd names for them. `docker import` turns that folder into an image
# whose command runs the server, as the official redis and valkey images do.
set -euo pipefail

if [[ $# -lt 2 ]]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
image=$1
shift
server=$(basename "$1")
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

mkdir -p "$root"/{bin,data,etc,tmp,usr/bin,usr/local/bin}
chmod 1777 "$root/tmp"
cp -L "$(command -v dash || command -v sh)" "$root/bin/sh"
for program in "$@"; do
    # Debian's redis-server is a link to redis-check-rdb: the name decides what the binary does.
    cp -L "$(command -v "$program")" "$root/usr/local/bin/$(basename "$program")"
done
# The loader and the libraries keep their paths: that is where the loader looks.
{ ldd "$root"/bin/sh "$root"/usr/local/bin/* || true; } | grep -oE '/[^ )]+\.so[^ )]*' | sort -u |
    while read -r library; do
        install -D "$library" "$root$library"
    done
# A server that cannot name its user or its host falls over in places; these two files are enough.
echo 'root:x:0:0:root:/data:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"

tar --create --directory "$root" . | docker import \
    --change 'ENV PATH=/usr/local/bin:/usr/bin:/bin' \
    --change 'WORKDIR /data' \
    --change 'EXPOSE 6379' \
    --change "CMD [\"$server\", \"--protected-mode\", \"no\", \"--save\", \"\"]" \
    - "$image" >/dev/null
echo "built $image: $(docker run --rm "$image" "$server" --version)"
