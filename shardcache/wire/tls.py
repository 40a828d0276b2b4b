"""The SSL context of each `TLS`: made once per process, and again when its files have changed.

Reading the certificates of the authorities takes 30 to 50 ms of CPU. If each connection did that,
many threads that start at once would spend their deadlines on it. The context is made in a thread
of its own, once for all callers that wait for it.
"""

import os
import ssl
from collections.abc import Callable
from typing import NamedTuple

from shardcache.events import Hook, log
from shardcache.options import TLS
from shardcache.wire.shared_call import NotBegun, SharedCall

__all__ = ("TLSContext", "make_context")

Stamp = tuple[tuple[int, int, int] | None, ...]  # of each file: time of change, size, inode


class _Made(NamedTuple):
    stamp: Stamp
    context: ssl.SSLContext


class TLSContext:
    """The context of one `TLS`; see `TLSContext.of`."""

    __slots__ = ("_call", "_failed", "_made", "_tls")

    def __init__(self, tls: TLS) -> None:
        self._tls = tls
        self._call: SharedCall[ssl.SSLContext] = SharedCall("reading the certificates")
        self._made: _Made | None = None
        # Files of this state could not be used, and the older context stays.
        self._failed: Stamp | None = None

    @classmethod
    def of(cls, tls: TLS) -> "TLSContext":
        """Return the context that this process has for ``tls``."""
        return _contexts.get(tls) or _contexts.setdefault(tls, cls(tls))

    def get(self, deadline: float, clock: Callable[[], float], hook: Hook | None) -> ssl.SSLContext:
        """Return the context, made anew if a file has changed.

        Raises OSError (ssl.SSLError, `NotInTime`) if there has never been a good one. Files may
        become unreadable later on, or not fit together (a new certificate beside the old key,
        while they are being replaced): that is logged, and the older context stays. So it does
        where the system gives no thread.

        ``hook``: is told if no thread could be started.
        """
        try:
            return self._current() or self._call.get(self._renew, deadline, clock, hook)
        except NotBegun:
            if self._made is None:
                raise
            return self._made.context

    async def get_async(self, deadline: float, hook: Hook | None) -> ssl.SSLContext:
        """As `get`, on an event loop."""
        try:
            return self._current() or await self._call.get_async(self._renew, deadline, hook)
        except NotBegun:
            if self._made is None:
                raise
            return self._made.context

    def _current(self) -> ssl.SSLContext | None:
        made = self._made
        if made is None:
            return None
        stamp = _stamp(self._tls)
        return made.context if stamp in (made.stamp, self._failed) else None

    def _renew(self) -> ssl.SSLContext:
        # Taken before reading, so that a change meanwhile is seen at the next connection.
        stamp = _stamp(self._tls)
        old = self._made
        try:
            context = make_context(self._tls)
        except OSError as error:
            if old is None:
                raise
            self._failed = stamp
            log.warning(
                "the TLS files have changed and cannot be used, "
                "the ones read before stay in use: %s",
                error,
            )
            return old.context
        self._made = _Made(stamp, context)
        return context


_contexts: dict[TLS, TLSContext] = {}


def make_context(tls: TLS) -> ssl.SSLContext:
    """Return a context that verifies, unless ``tls`` says otherwise (G7)."""
    context = (
        ssl.create_default_context(cafile=tls.ca_file)
        if tls.verify
        else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )
    if tls.cert_file or tls.key_file:
        context.load_cert_chain(tls.cert_file or "", tls.key_file, password=_no_password)
    context.check_hostname = tls.verify and tls.check_hostname
    context.verify_mode = ssl.CERT_REQUIRED if tls.verify else ssl.CERT_NONE
    return context


def _no_password() -> str:
    # OpenSSL would ask on the terminal, and wait for an answer.
    raise ssl.SSLError("the private key is encrypted; a key without a password is needed")


def _stamp(tls: TLS) -> Stamp:
    system = ssl.get_default_verify_paths()
    authorities = (
        (tls.ca_file,) if tls.ca_file else (system.cafile, system.capath) if tls.verify else ()
    )
    return tuple(_state(path) for path in (*authorities, tls.cert_file, tls.key_file) if path)


def _state(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
