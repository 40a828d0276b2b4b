"""TLS: what is checked, what is refused, and certificates that are read again on change."""

import asyncio
import logging
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import shardcache.wire.tls
from shardcache import TLS, AsyncShardCache, Options, ShardCache
from shardcache.embedded import LocalShards
from shardcache.embedded.server_program import find_server
from shardcache.errors import AuthenticationFailed, InvalidOption, ServerNotStarted

CALLS = {
    "get": lambda cache: cache.get("k"),
    "get_many": lambda cache: cache.get_many(["k"]),
    "set": lambda cache: cache.set("k", 1),
    "set_many": lambda cache: cache.set_many({"k": 1}),
    "scan": lambda cache: list(cache.scan()),
    "clear": lambda cache: cache.clear(),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def make_authority(folder: Path, name: str) -> None:
    """Make ``name``.key and ``name``.pem, an authority of its own."""
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    files = ("-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={name}")
    openssl(folder, "req", "-x509", *KEY, *files, *usage)


def make_certificate(folder: Path, name: str, authority: str) -> None:
    """Make ``name``.key and ``name``.pem, for localhost but not for 127.0.0.1."""
    # From 3.13 on, Python asks of a certificate all that RFC 5280 does.
    (folder / "ext").write_text("subjectAltName=DNS:localhost\nauthorityKeyIdentifier=keyid\n")
    openssl(
        folder, "req", *KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"
    )
    signed = (
        "-CA",
        f"{authority}.pem",
        "-CAkey",
        f"{authority}.key",
        "-CAcreateserial",
        "-days",
        "2",
    )
    openssl(
        folder,
        "x509",
        "-req",
        "-in",
        f"{name}.csr",
        *signed,
        "-extfile",
        "ext",
        "-out",
        f"{name}.pem",
    )


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    """A folder with two authorities and a certificate of each for localhost, not for 127.0.0.1."""
    if shutil.which("openssl") is None:
        pytest.skip("making certificates takes the openssl program")
    folder = tmp_path_factory.mktemp("tls")
    for authority, server in (("ca", "server"), ("other-ca", "other-server")):
        make_authority(folder, authority)
        make_certificate(folder, server, authority)
    return folder


def serve(folder: Path, name: str, authority: str = "ca", clients: str = "no") -> Iterator[int]:
    """Start a server with this certificate; yield its TLS port."""
    port = free_port()
    options = {
        "tls-port": str(port),
        "tls-cert-file": str(folder / f"{name}.pem"),
        "tls-key-file": str(folder / f"{name}.key"),
        "tls-ca-cert-file": str(folder / f"{authority}.pem"),
        "tls-auth-clients": clients,
    }
    for program in filter(
        None, (find_server(), *map(shutil.which, ("valkey-server", "redis-server")))
    ):
        try:
            with LocalShards(1, tcp=True, options=options, binary=program):
                yield port
            return
        except ServerNotStarted as error:
            if "TLS" not in str(error) and "tls" not in str(error):
                raise
    pytest.skip("no server program here was built with TLS")


@pytest.fixture(scope="module")
def secure(certificates) -> Iterator[int]:
    """The TLS port of a server."""
    yield from serve(certificates, "server")


@pytest.fixture(scope="module")
def other(certificates) -> Iterator[int]:
    """The TLS port of a server that the other authority certifies, as are its clients."""
    yield from serve(certificates, "other-server", "other-ca", clients="yes")


@pytest.mark.parametrize("protocol", [3, 2])
def test_tls_verified(make, secure, certificates, protocol) -> None:
    """With the authority's certificate the connection is made, and big values go both ways."""
    url = f"rediss://localhost:{secure}/0?ssl_ca_certs={certificates / 'ca.pem'}"
    cache = make({"a": url}, options=Options(protocol=protocol))
    big = {str(number): bytes([number]) * 1_500_000 for number in range(4)}
    assert (cache.set("k", 1), cache.get("k")) == (True, 1)
    assert (cache.set_many(big), cache.get_many(big), cache.get("3")) == ([], big, big["3"])


@each_call
@pytest.mark.parametrize("wrong", ["unknown authority", "another host's name"])
def test_tls_refused(make, secure, certificates, call, wrong) -> None:
    """A certificate that does not verify is an error, never a silent miss, under "degrade" too."""
    host, query = (
        ("localhost", "")
        if wrong == "unknown authority"
        else ("127.0.0.1", f"?ssl_ca_certs={certificates / 'ca.pem'}")
    )
    cache = make({"a": f"rediss://{host}:{secure}/0{query}"})
    with pytest.raises(AuthenticationFailed, match="certificate") as caught:
        call(cache)
    assert (caught.value.shard, cache.stats().shards["a"].connects) == ("a", 0)


def test_tls_unverified_on_demand(make, secure) -> None:
    """Only who says so in words goes unverified."""
    cache = make({"a": f"rediss://127.0.0.1:{secure}/0?ssl_cert_reqs=none"})
    assert (cache.set("k", 1), cache.get("k")) == (True, 1)


def test_tls_with_a_missing_file(make, secure, certificates) -> None:
    """A path that is not there is an error of the caller's, never a silent miss."""
    with pytest.raises(InvalidOption, match=r"nowhere\.pem"):
        make({"a": f"rediss://localhost:{secure}/0?ssl_ca_certs={certificates / 'nowhere.pem'}"})


@pytest.fixture
def made(monkeypatch) -> list[int]:
    """The threads in which contexts are made."""
    found: list[int] = []
    real = shardcache.wire.tls.make_context

    def make_context(tls):
        found.append(threading.get_ident())
        return real(tls)

    monkeypatch.setattr(shardcache.wire.tls, "make_context", make_context)
    return found


@pytest.fixture
def own_authority(certificates, tmp_path) -> Path:
    """A copy of the authority that this test may change."""
    return Path(shutil.copy(certificates / "ca.pem", tmp_path / "own.pem"))


def test_cold_threads_make_one_context(secure, own_authority, made) -> None:
    """Twenty threads that connect for the first time read the certificates once."""
    url = f"rediss://localhost:{secure}/0?ssl_ca_certs={own_authority}"
    with ShardCache(
        {"a": f"{url}&name=a", "b": f"{url}&name=b"}, timeout=30, on_unavailable="raise"
    ) as cache:
        barrier = threading.Barrier(20)
        found: list[object] = []

        def work(number: int) -> None:
            barrier.wait()
            found.append(cache.set(f"k{number}", number))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        failures = sum(shard.failures for shard in cache.stats().shards.values())
    assert (found, failures, len(made)) == ([True] * 20, 0, 1)


def test_loop_makes_no_context(secure, own_authority, made) -> None:
    """On asyncio the certificates are read once, in another thread than the loop's."""
    url = f"rediss://localhost:{secure}/0?ssl_ca_certs={own_authority}"

    async def main() -> list[bool]:
        async with (
            AsyncShardCache({"a": url}, timeout=30) as one,
            AsyncShardCache({"a": url}, timeout=30) as two,
        ):
            return await asyncio.gather(
                one.set("a", 1), two.set("b", 2), one.set("c", "x" * 100_000)
            )

    assert asyncio.run(main()) == [True] * 3
    assert (len(made), threading.get_ident() in made) == (1, False)


def test_authority_changes(make, secure, other, certificates, own_authority, made) -> None:
    """An authority file that is replaced counts for the next connection, with no restart."""
    url = f"rediss://localhost:{{}}/0?ssl_ca_certs={own_authority}"
    files = {"ssl_certfile": "other-server.pem", "ssl_keyfile": "other-server.key"}
    mine = "".join(f"&{name}={certificates / file}" for name, file in files.items())
    cache = make({"a": url.format(secure) + mine, "b": url.format(other) + mine})
    before = {name: result.ok for name, result in cache.ping().items()}
    shutil.copy(certificates / "other-ca.pem", own_authority)
    after = {name: result.ok for name, result in cache.ping().items()}
    again = {name: result.ok for name, result in cache.ping().items()}
    assert (before, after, again, len(made)) == (
        {"a": True, "b": False},
        {"a": False, "b": True},
        after,
        2,
    )


def test_client_certificate_changes(make, other, certificates, tmp_path, made, caplog) -> None:
    """A new certificate beside the old key is logged; the old pair is used until the key comes."""
    for kind in ("pem", "key"):
        shutil.copy(certificates / f"server.{kind}", tmp_path / f"own.{kind}")
    files = f"ssl_certfile={tmp_path / 'own.pem'}&ssl_keyfile={tmp_path / 'own.key'}"
    cache = make(
        {"a": f"rediss://localhost:{other}/0?ssl_ca_certs={certificates / 'other-ca.pem'}&{files}"}
    )

    def ping() -> tuple[bool, int]:
        return cache.ping()["a"].ok, len(made)

    refused = ping()  # the other authority does not know it
    with caplog.at_level(logging.WARNING, "shardcache"):
        shutil.copy(certificates / "other-server.pem", tmp_path / "own.pem")
        half = [ping(), ping()]
    assert (refused, half) == ((False, 1), [(False, 2), (False, 2)])
    assert [
        record.levelname for record in caplog.records if "TLS files" in record.getMessage()
    ] == ["WARNING"]
    shutil.copy(certificates / "other-server.key", tmp_path / "own.key")
    assert (ping(), ping()) == ((True, 3), (True, 3))


def test_authority_vanishes(make, secure, own_authority, caplog) -> None:
    """A file that is gone later on changes nothing but the log."""
    cache = make({"a": f"rediss://localhost:{secure}/0?ssl_ca_certs={own_authority}"})
    before = cache.ping()["a"].ok
    own_authority.unlink()
    with caplog.at_level(logging.WARNING, "shardcache"):
        assert (before, cache.ping()["a"].ok) == (True, True)
    assert "TLS files" in caplog.text


@each_call
def test_useless_authority(make, secure, tmp_path, call) -> None:
    """A file that holds no certificate is an error, never a silent miss, under "degrade" too."""
    (tmp_path / "no.pem").write_text("this is not a certificate")
    cache = make({"a": f"rediss://localhost:{secure}/0?ssl_ca_certs={tmp_path / 'no.pem'}"})
    with pytest.raises(AuthenticationFailed, match="TLS files cannot be used"):
        call(cache)


def test_encrypted_key(make, secure, certificates, tmp_path) -> None:
    """A key with a password is refused by name; nobody is asked for it on the terminal."""
    openssl(
        certificates,
        "ec",
        "-in",
        "server.key",
        "-aes128",
        "-passout",
        "pass:x",
        "-out",
        str(tmp_path / "own.key"),
    )
    tls = TLS(
        str(certificates / "ca.pem"), str(certificates / "server.pem"), str(tmp_path / "own.key")
    )
    cache = make({"a": f"rediss://localhost:{secure}/0"}, options=Options(tls=tls))
    with pytest.raises(AuthenticationFailed, match="the private key is encrypted"):
        cache.get("k")
