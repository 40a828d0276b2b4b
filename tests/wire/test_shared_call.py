"""A blocking function in a thread: shared, waited for until a deadline, harmless if hung."""

import asyncio
import gc
import os
import threading
import time

import pytest

from shardcache import Options
from shardcache.errors import ShardUnavailable
from shardcache.events import Event
from shardcache.urls import Address
from shardcache.wire.aio.dialer import AsyncDialer
from shardcache.wire.shared_call import NotBegun, NotInTime, SharedCall
from shardcache.wire.sync.dialer import Dialer

FAR = 30.0  # seconds that no test waits for


def far() -> float:
    return time.monotonic() + FAR


def test_result() -> None:
    """The function runs in another thread, and its result comes back; each call runs it anew."""
    call: SharedCall[int] = SharedCall("thinking")
    found = [call.get(threading.get_ident, far(), time.monotonic) for _ in range(2)]
    assert threading.get_ident() not in found
    assert [
        call.get(lambda: 1, far(), time.monotonic),
        call.get(lambda: 2, far(), time.monotonic),
    ] == [1, 2]


@pytest.mark.parametrize(
    "error", [ValueError("odd"), TimeoutError("its own"), SystemExit(3)], ids=repr
)
def test_error(error) -> None:
    """What the function raises is raised to who asked; the next call runs it again."""
    call: SharedCall[int] = SharedCall("thinking")

    def fail() -> int:
        raise error

    with pytest.raises(type(error)) as caught:
        call.get(fail, far(), time.monotonic)
    assert (caught.value, call.get(lambda: 1, far(), time.monotonic)) == (error, 1)


def test_joined() -> None:
    """Callers that ask while it runs get the same result; a timeout says what it was."""
    call: SharedCall[object] = SharedCall("thinking")
    runs: list[int] = []
    go = threading.Event()

    def slow() -> object:
        runs.append(1)
        go.wait(FAR)
        return object()

    for _ in range(3):
        with pytest.raises(NotInTime, match="thinking"):
            call.get(slow, time.monotonic(), time.monotonic)
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(call.get(slow, far(), time.monotonic)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    while threading.active_count() < 10:  # this one, the function's, and eight who wait
        time.sleep(0.001)
    go.set()
    for thread in threads:
        thread.join()
    assert (len(runs), len(found), len(set(map(id, found)))) == (1, 8, 1)


def test_loop_goes_on() -> None:
    """On an event loop other tasks run meanwhile; a late result or error does no harm."""
    call: SharedCall[int] = SharedCall("thinking")
    go = threading.Event()
    said: list[object] = []

    def slow() -> int:
        go.wait(FAR)
        raise ValueError("too late")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: said.append(context))
        patient = asyncio.ensure_future(call.get_async(slow, loop.time() + FAR))
        cancelled = asyncio.ensure_future(call.get_async(slow, loop.time() + FAR))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(NotInTime, match="thinking"):
            await call.get_async(slow, loop.time())
        go.set()
        with pytest.raises(ValueError, match="too late"):
            await patient
        await asyncio.sleep(0)
        gc.collect()
        await asyncio.sleep(0)

    asyncio.run(main())
    gc.collect()
    assert said == []


def no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_no_thread(monkeypatch) -> None:
    """Without a thread the deadline could not be kept: both colours raise, and an event tells it.

    Who may block does it himself.
    """
    call: SharedCall[int] = SharedCall("thinking")
    told: list[tuple[str, str, str]] = []

    def hook(event: Event) -> None:
        told.append((event.kind, event.operation, type(event.error).__name__))

    async def main() -> None:
        with pytest.raises(NotBegun, match=r"thinking: can't start"):
            await call.get_async(lambda: 1, asyncio.get_running_loop().time() + FAR, hook)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(NotBegun, match=r"thinking: can't start"):
            call.get(lambda: 1, far(), time.monotonic, hook)
        asyncio.run(main())
        assert call.start(threading.get_ident, may_block=True).result() == threading.get_ident()
    assert told == [("thread_not_started", "connect", "ThreadNotStarted")] * 2
    assert (call.running, call.get(lambda: 2, far(), time.monotonic)) == (False, 2)


def test_interrupted(monkeypatch) -> None:
    """A signal handler that raises while the thread is started leaves nobody waiting for it."""

    def interrupted(_: threading.Thread) -> None:
        raise KeyboardInterrupt

    call: SharedCall[int] = SharedCall("thinking")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            call.get(lambda: 1, far(), time.monotonic)
    assert call.get(lambda: 2, far(), time.monotonic) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_fork() -> None:
    """A child does not wait for the thread of its parent."""
    call: SharedCall[int] = SharedCall("thinking")
    go = threading.Event()
    with pytest.raises(NotInTime):
        call.get(lambda: int(go.wait(FAR)), time.monotonic(), time.monotonic)
    child = os.fork()
    if not child:
        code = 9
        try:
            code = call.get(lambda: 5, far(), time.monotonic)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    go.set()


class _Provider:
    """Credentials from a service."""

    def get_credentials(self) -> tuple[str, str]:
        return "user", "password"


@pytest.mark.parametrize("dialled", ["name", "login"])
def test_clients_hook_is_told(monkeypatch, dialled) -> None:
    """What opens a connection passes on the hook of its client."""
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    told: list[str] = []
    provider = _Provider() if dialled == "login" else None
    options = Options(
        on_event=lambda event: told.append(event.operation), credential_provider=provider
    )
    # A name that no other test looks up: what the process knows of it would be enough.
    host = "127.0.0.1" if dialled == "login" else "hook.invalid"
    address = Address(host, 1)

    async def main() -> None:
        with pytest.raises((OSError, ShardUnavailable)):
            await AsyncDialer("a", address, options)(
                asyncio.get_running_loop().time() + FAR, FAR, print, print
            )

    with pytest.raises((OSError, ShardUnavailable)):
        Dialer("a", address, options, time.monotonic)(far())
    asyncio.run(main())
    assert told == ["connect"] * 2
