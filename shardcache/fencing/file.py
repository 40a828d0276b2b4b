"""Fencing of a file: it is replaced as a whole, under a lock, if its token is new enough."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from shardcache.errors import DamagedPayload, FenceBusy, InvalidArgument, InvalidOption, StaleToken
from shardcache.fencing.token import check_token

__all__ = ("FencedFile",)

POLL = 0.005  # seconds between two tries for a lock that another process has


class FencedFile:
    """A file that is replaced as a whole, and only by a holder whose fencing token is not too old.

    ``path``: the file; links in it are followed once, here.
    ``timeout``: seconds to wait for another writer, from 0; default 10.
    ``clock``: returns seconds; for tests. Default: the monotonic clock.
    ``sleep``: waits for some seconds; for tests. Default: `time.sleep`.

    Beside the file are ``.NAME.lock``, on which writers wait for each other (flock), and
    ``.NAME.fence``, the highest token as digits. Do not delete these two. During a write, or after
    a crash, there are also files that end in ``.new``.

    Guarantee: a reader of ``path`` finds the whole data of one `write`, and never the data of an
    older token after those of a newer one, also if processes or the machine stop at any point. The
    token is on the disk before the data appear. So a crash in between leaves old data with a newer
    token, and older holders are refused. In the other order, an older holder could replace newer
    data. It works on local file systems of POSIX systems.

    Raises `InvalidOption` for a wrong ``timeout``, or a ``path`` that names a directory.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        timeout: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0:
            raise InvalidOption(
                f"timeout must be a number of seconds, 0 or more, got {timeout!r:.80}"
            )
        self.path = os.path.realpath(os.fspath(path))
        self._folder, name = os.path.split(self.path)
        if not name or os.path.isdir(self.path):
            raise InvalidOption(f"path must name a file, got {path!r:.200}")
        self._fence = os.path.join(self._folder, f".{name}.fence")
        self._lock = os.path.join(self._folder, f".{name}.lock")
        self._timeout = timeout
        self._clock = clock
        self._sleep = sleep

    @property
    def seen(self) -> int:
        """The highest token seen; 0 if there was none.

        Raises `DamagedPayload` if the record is no token.
        """
        try:
            with open(self._fence, "rb") as file:
                text = file.read()
        except FileNotFoundError:
            return 0
        if not text.isdigit():
            raise DamagedPayload(f"{self._fence} should hold a fencing token, got {text!r:.80}")
        return int(text)

    def read(self, token: int) -> bytes | None:
        """Return the contents of the file, and refuse older tokens from now on.

        ``token``: the fencing token of the holder.

        It is None if the file is not there. A holder whose data depend on the former contents
        begins with this: then no older holder can write between its reading and its writing.
        Raises as `write`.
        """
        with self._admitted(token):
            try:
                with open(self.path, "rb") as file:
                    return file.read()
            except FileNotFoundError:
                return None

    def write(self, data: bytes, token: int) -> None:
        """Replace the contents of the file; they are on the disk when this returns.

        ``data``: the new contents, as bytes.
        ``token``: the fencing token of the holder, 1 to 2⁶³ - 1.

        An existing file keeps its mode. Raises before anything is touched:

        - `InvalidArgument` if ``data`` is not bytes;
        - `InvalidToken` if ``token`` is not in its range.

        Raises after that:

        - `StaleToken` if a newer token was seen;
        - `FenceBusy` if other writers had the lock all the time;
        - `OSError` if the system raises it.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise InvalidArgument(f"data must be bytes, got {type(data).__name__}")
        with self._admitted(token):
            self._replace(self.path, data)

    def delete(self, token: int) -> bool:
        """Remove the file; return whether it was there.

        ``token``: the fencing token of the holder. It stays recorded.

        Raises as `write`.
        """
        with self._admitted(token):
            try:
                os.unlink(self.path)
            except FileNotFoundError:
                return False
            self._sync_folder()
            return True

    @contextmanager
    def _admitted(self, token: int) -> Iterator[None]:
        """Keep other writers out during the block, with ``token`` recorded on the disk."""
        check_token(token)
        with self._locked():
            seen = self.seen
            if token < seen:
                raise StaleToken(self.path, token, seen)
            # Write an equal token too: its former writer may have died before it was on the disk.
            self._replace(self._fence, b"%d" % token)
            yield

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Every call opens the file anew, so that threads exclude each other as well.
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            deadline = self._clock() + self._timeout
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if self._clock() >= deadline:
                        raise FenceBusy(
                            f"others kept {self._lock} locked for {self._timeout:g} s"
                        ) from None
                    self._sleep(POLL)
            yield
        finally:
            os.close(lock)

    def _replace(self, path: str, data: bytes | bytearray | memoryview) -> None:
        """Replace the contents of ``path``, as a whole or not at all, and on the disk."""
        # Under the lock one name is enough. The next writer overwrites what a crash left behind.
        new = os.path.join(self._folder, f".{os.path.basename(path)}.new")
        with open(new, "wb", opener=_create) as file:
            with suppress(FileNotFoundError):
                os.fchmod(file.fileno(), os.stat(path).st_mode & 0o7777)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
        self._sync_folder()

    def _sync_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def __repr__(self) -> str:
        return f"FencedFile({self.path!r}, timeout={self._timeout!r})"


def _create(path: str, flags: int) -> int:
    # In a directory that others may write to, somebody could have put a link at this name.
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)
