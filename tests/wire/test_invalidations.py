"""What a server answers that is asked to tell of writes."""

import socket
import time
from threading import Thread

import pytest

from shardcache.errors import AuthenticationFailed, CommandRefused, ShardError, ShardUnavailable
from shardcache.wire.sync.connection import Connection
from shardcache.wire.sync.invalidations import Invalidations
from tests.waiting import until


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"BUSY Redis is busy running a script", ShardUnavailable),
        (b"NOAUTH Authentication required.", AuthenticationFailed),
        (b"NOPERM User default has no permissions to run 'client|tracking'", CommandRefused),
        (b"ERR unknown command 'CLIENT'", CommandRefused),
    ],
)
def test_only_a_refusal_says_that_there_is_no_tracking(
    answer: bytes, kind: type[ShardError]
) -> None:
    """A server that cannot answer now is asked again soon, like one whose connection is lost."""
    here, there = socket.socketpair()
    with there:
        there.sendall(b"%0\r\n-" + answer + b"\r\n*0\r\n")
        connection = Connection("h", here, time.monotonic)
        with pytest.raises(kind) as caught:
            Invalidations(connection, b"", (b"ROLE",), time.monotonic() + 60)
        assert type(caught.value) is kind
        assert answer.decode() in caught.value.reason


def test_command_that_writes_many_keys() -> None:
    """All its keys come in one message, however long."""
    keys = [b"key-of-some-length-%05d" % number for number in range(20_000)]
    message = b">2\r\n$10\r\ninvalidate\r\n*%d\r\n" % len(keys)
    message += b"".join(b"$%d\r\n%b\r\n" % (len(key), key) for key in keys)
    here, there = socket.socketpair()
    with there:
        there.sendall(b"%0\r\n+OK\r\n*0\r\n")
        told = Invalidations(
            Connection("h", here, time.monotonic), b"", (b"ROLE",), time.monotonic() + 60
        )
        Thread(target=there.sendall, args=(message,), daemon=True).start()
        found = until(lambda: told.wait(1)[0])
        told.close()
    assert found == [keys]
