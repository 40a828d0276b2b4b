"""Fencing of a file: replaced whole, under a lock, behind a record of the highest token."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from shardcache.errors import DamagedPayload, FenceBusy, InvalidArgument, InvalidOption, StaleToken
from shardcache.fencing.token import check_token

__all__ = ("FencedFile",)

POLL = 0.005  # seconds between two looks at a lock that another process has


class FencedFile:
    """A file that is replaced whole, and only by a holder whose fencing token is not older than one seen.

    Beside ``path`` (links are followed once, here) lie ``.NAME.lock``, on which writers wait for each other (flock),
    ``.NAME.fence``, the highest token as digits, and while somebody writes, or after a crash, files that end in
    ``.new``. Do not delete the first two. ``timeout`` is how many seconds to wait for another writer; ``clock`` and
    ``sleep`` are for tests.

    Guarantee: whoever reads ``path`` finds what one `write` wrote, whole, and never an older token's data after a newer
    one's, also if processes or the machine stop at any point. The token is on the disk before the data appear: a crash
    between leaves the old data behind a newer token, and older holders refused; the other way round, an
    older holder could replace newer data. For local file systems of POSIX systems.
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
        """The highest token seen, 0 if none. Raises `DamagedPayload` if the record is not a token."""
        try:
            with open(self._fence, "rb") as file:
                text = file.read()
        except FileNotFoundError:
            return 0
        if not text.isdigit():
            raise DamagedPayload(f"{self._fence} should hold a fencing token, got {text!r:.80}")
        return int(text)

    def read(self, token: int) -> bytes | None:
        """Return what the file holds, None if it is not there, and let nobody with an older token write from here on.

        So it is the first act of a holder who will write what depends on what it has read. Raises as `write`.
        """
        with self._admitted(token):
            try:
                with open(self.path, "rb") as file:
                    return file.read()
            except FileNotFoundError:
                return None

    def write(self, data: bytes, token: int) -> None:
        """Replace the file by ``data``; on the disk when this returns. An existing file keeps its mode.

        Raises `StaleToken` if a newer token was seen, `FenceBusy` if others write all the while; before anything is
        touched `InvalidToken`, and `InvalidArgument` if ``data`` is not bytes; else what the system raises (OSError).
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise InvalidArgument(f"data must be bytes, got {type(data).__name__}")
        with self._admitted(token):
            self._replace(self.path, data)

    def delete(self, token: int) -> bool:
        """Remove the file, and return whether it was there. The token stays recorded. Raises as `write`."""
        with self._admitted(token):
            try:
                os.unlink(self.path)
            except FileNotFoundError:
                return False
            self._sync_folder()
            return True

    @contextmanager
    def _admitted(self, token: int) -> Iterator[None]:
        """Keep other writers out, with ``token`` recorded for good."""
        check_token(token)
        with self._locked():
            seen = self.seen
            if token < seen:
                raise StaleToken(self.path, token, seen)
            # An equal one too: the writer before may have died before its record was on the disk.
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
        """Put ``data`` in the place of ``path``: whole or not at all, and on the disk."""
        # Under the lock one name is enough, and what a crash left behind is overwritten by the next writer.
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
    # In a folder that others may write to, the name could have been made a link to somewhere else.
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)
