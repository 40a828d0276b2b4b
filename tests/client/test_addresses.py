"""A host that stands for several addresses, and one that nobody can look up."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from shardcache import Options
from shardcache.embedded import LocalShards
from shardcache.errors import AuthenticationFailed, ShardTimeout

FAR = 60.0


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """The port of a server."""
    with LocalShards(1, tcp=True) as servers:
        yield urlsplit(servers.urls["shard-1"]).port


@pytest.fixture(scope="module")
def guarded() -> Iterator[int]:
    """The port of a server that wants a password."""
    with LocalShards(1, tcp=True, options={"requirepass": "x"}) as servers:
        yield int(servers.urls["shard-1"].rpartition(":")[2].partition("/")[0])


@pytest.fixture
def listen() -> Iterator[Callable[[], socket.socket]]:
    """Make listeners whose connections nobody takes."""
    with ExitStack() as stack:

        def build() -> socket.socket:
            made = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            made.setblocking(False)
            return made

        yield build


def port_of(listener: socket.socket) -> int:
    return listener.getsockname()[1]


def came(listener: socket.socket) -> int:
    """Return how many connections have come in."""
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


@pytest.fixture
def resolve(names, host) -> Callable[..., None]:
    """Have ``host`` stand for these ports of this machine."""
    return lambda *ports: names.say(host, *(("127.0.0.1", port) for port in ports))


def test_first_address_is_silent(make, listen, resolve, host, server) -> None:
    """The second address has its share of the time in the same call, then is tried first."""
    silent = listen()
    resolve(port_of(silent), server)
    cache = make({"a": f"redis://{host}"}, timeout=1.5, on_unavailable="raise")
    assert (cache.set("k", 1), cache.get("k"), came(silent)) == (True, 1, 1)
    assert [cache.ping()["a"].error for _ in range(3)] == [None] * 3
    assert (came(silent), cache.stats().shards["a"].failures) == (0, 0)


def test_first_address_refuses(make, listen, resolve, host, server) -> None:
    """Then there is no waiting: nearly the whole deadline is left for the second."""
    gone = listen()
    port = port_of(gone)
    gone.close()
    resolve(port, server)
    cache = make({"a": f"redis://{host}"}, timeout=FAR, on_unavailable="raise")
    assert (cache.set("k", 1), cache.get("k")) == (True, 1)


def test_remembered_address_goes_silent(make, listen, resolve, host, server) -> None:
    """What is remembered is a preference: the others are tried after it.

    A name that has moved is followed, although the former address still answers.
    """
    silent = listen()
    resolve(server)
    options = Options(dns_ttl=0)
    cache = make({"a": f"redis://{host}"}, timeout=1.5, on_unavailable="raise", options=options)
    cache.set("k", 1)
    resolve(port_of(silent), server)
    assert ([cache.ping()["a"].error for _ in range(3)], came(silent)) == ([None] * 3, 0)
    resolve(port_of(silent))
    while cache.ping()["a"].error_type != "ShardTimeout":
        continue
    assert came(silent)


def test_all_are_silent(make, listen, resolve, host) -> None:
    """The call ends with its deadline, and says what was waited for."""
    one, two = listen(), listen()
    resolve(port_of(one), port_of(two))
    # Half of it for the first address: enough that the second has its half although a busy machine
    # wakes up late.
    cache = make({"a": f"redis://{host}"}, timeout=1, on_unavailable="raise")
    with pytest.raises(ShardTimeout, match=r"no connection within (the deadline|its time)"):
        cache.get("k")
    assert (came(one), came(two)) == (1, 1)


def test_a_no_is_an_answer(make, listen, resolve, host, server, guarded) -> None:
    """An address whose server wants another password is not passed over in silence."""
    resolve(guarded, server)
    cache = make({"a": f"redis://{host}"})
    with pytest.raises(AuthenticationFailed):
        cache.get("k")


def test_look_up_hangs(make, names, host, server) -> None:
    """A resolver that does not answer costs each call its deadline, and all of them one thread."""
    names.say(host, ("127.0.0.1", server))
    names.hang(host)
    cache = make({"a": f"redis://{host}"}, timeout=0.2, on_unavailable="raise")
    with pytest.raises(ShardTimeout, match=r"looking up the host name|no connection"):
        cache.get("k")
    assert [cache.ping()["a"].error_type for _ in range(3)] == ["ShardTimeout"] * 3
    assert names.asked == [host]
    names.let_go()
    patient = make({"a": f"redis://{host}"}, on_unavailable="raise")
    assert (patient.set("k", 1), patient.get("k")) == (True, 1)
