"""TLS contexts where the system gives no thread to make one."""

import asyncio
import threading
import time
from typing import Any

import pytest

import shardcache.wire.tls
from shardcache.options import TLS
from shardcache.wire.shared_call import NotBegun
from shardcache.wire.tls import TLSContext

FAR = 60.0


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_no_thread_for_changed_files(monkeypatch, colour: str) -> None:
    """What was made before stays in use; without any the call fails."""

    def get(context: TLSContext) -> Any:
        if colour == "sync":
            return context.get(time.monotonic() + FAR, time.monotonic, None)

        async def main() -> Any:
            return await context.get_async(asyncio.get_running_loop().time() + FAR, None)

        return asyncio.run(main())

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    stamps = iter([(1,), (1,), (2,), (3,)])
    monkeypatch.setattr(shardcache.wire.tls, "_stamp", lambda _: next(stamps))
    context = TLSContext(TLS(verify=False))
    made = get(context)
    assert get(context) is made
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert get(context) is made
        with pytest.raises(NotBegun):
            get(TLSContext(TLS(verify=False)))
