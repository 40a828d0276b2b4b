"""What is known of a host name: answers that are kept, look-ups that hang, fail, or say new."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from shardcache.wire.host_name import LATE, HostName
from shardcache.wire.lookup_threads import LookupThreads
from shardcache.wire.resolve import Resolver
from shardcache.wire.shared_call import NotBegun, NotInTime
from tests.names import FakeNames
from tests.waiting import until

FAR = 60.0
HOST = "a.example"


class User:
    """A shard that notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_lookup(self, error: OSError | None) -> None:
        self.heard.append("answer" if error is None else type(error).__name__)

    def on_name_moved(self) -> None:
        self.heard.append("moved")


class Desk:
    """A resolver under a clock of the test, in one of the colours."""

    def __init__(self, names: FakeNames, colour: str, ttl: float) -> None:
        self.names = names
        self.now = 1000.0
        self.colour = colour
        self.name = HostName(HOST, lambda: self.now, lambda: 0.0)
        self.resolver = Resolver(HOST, 6379, ttl, name=self.name)
        self.user = User()
        self.resolver.watch(self.user)

    def get(self, seconds: float = FAR) -> list[str]:
        """Return the addresses that a call with so much time gets."""
        if self.colour == "sync":
            found = self.resolver.get(time.monotonic() + seconds, time.monotonic)
        else:

            async def main() -> Any:
                return await self.resolver.get_async(asyncio.get_running_loop().time() + seconds)

            found = asyncio.run(main())
        return [endpoint.where[0] for endpoint in found]

    def others(self, *tried: str, seconds: float = FAR) -> list[str]:
        known = self.resolver._ordered(self.name)
        gone = [endpoint for endpoint in known if endpoint.where[0] in tried]
        if self.colour == "sync":
            found = self.resolver.others(gone, time.monotonic() + seconds, time.monotonic)
        else:

            async def main() -> Any:
                loop = asyncio.get_running_loop()
                return await self.resolver.others_async(gone, loop.time() + seconds)

            found = asyncio.run(main())
        return [endpoint.where[0] for endpoint in found]

    def quiet(self) -> None:
        """Wait until no look-up is under way."""
        until(lambda: self.name.runs_for is None)


@pytest.fixture(params=["sync", "async"])
def desk(request, names) -> Callable[..., Desk]:
    """Make a resolver in each colour."""
    return lambda ttl=30.0: Desk(names, request.param, ttl)


def test_answer_is_kept(names, desk) -> None:
    """Until it is old nothing is asked; then it is asked for again, once a second at the most."""
    names.say(HOST, "10.0.0.1")
    one = desk()
    assert [one.get(), one.get()] == [["10.0.0.1"]] * 2
    one.now += 29
    one.get()
    assert names.asked == [HOST]
    one.now += 2
    names.say(HOST, socket.gaierror("no"))
    assert one.get() == ["10.0.0.1"]
    one.quiet()
    one.get()
    assert names.asked == [HOST] * 2
    one.now += 1
    one.get()
    one.quiet()
    assert (names.asked, one.get()) == ([HOST] * 3, ["10.0.0.1"])


def test_answer_has_the_port(names, desk) -> None:
    """What the system says has no port, or its own."""
    names.say(HOST, "10.0.0.1", ("10.0.0.2", 7), "fd00::1")
    one = desk()
    one.get()
    assert [each.where[:2] for each in one.resolver._ordered(one.name)] == [
        ("10.0.0.1", 6379),
        ("fd00::1", 6379),
        ("10.0.0.2", 7),
    ]


def test_new_answer_is_followed(names, desk) -> None:
    """The look-up behind the back brings other addresses; the users hear that the name moved."""
    names.say(HOST, "10.0.0.1")
    one = desk()
    one.get()
    names.say(HOST, "10.0.0.2", "10.0.0.3")
    one.now += 30
    one.get()
    one.quiet()
    assert one.get()[0] == "10.0.0.2"
    names.say(HOST, "10.0.0.3", "10.0.0.4")
    one.now += 30
    one.get()
    one.quiet()
    assert one.user.heard == ["answer", "answer", "moved", "answer"]


def test_hung_look_up_costs_nothing(names, desk) -> None:
    """With an answer at hand nobody waits for it, and however long it hangs there is one thread."""
    names.say(HOST, "10.0.0.1")
    one = desk()
    one.get()
    names.hang(HOST)
    one.now += 100
    for _ in range(5):
        assert one.get() == ["10.0.0.1"]
        one.now += 30
    assert names.asked == [HOST] * 2
    assert one.user.heard == ["answer", *["NotInTime"] * 4]
    names.let_go()
    one.quiet()
    assert one.user.heard[-1] == "answer"


def test_first_look_up_hangs(names, desk) -> None:
    """It is waited for until the deadline, by all callers together in one thread."""
    names.say(HOST, "10.0.0.1")
    names.hang(HOST)
    one = desk()
    for _ in range(3):
        with pytest.raises(NotInTime, match="looking up the host name"):
            one.get(0.01)
    one.now += LATE
    with pytest.raises(NotInTime):
        one.get(0.0)
    assert (names.asked, one.user.heard) == ([HOST], ["NotInTime"])
    names.let_go()
    assert one.get() == ["10.0.0.1"]


def test_first_look_up_fails(names, desk) -> None:
    """The error is the caller's, and the next call asks again."""
    names.say(HOST, socket.gaierror("no"))
    one = desk()
    for _ in range(2):
        with pytest.raises(socket.gaierror):
            one.get()
    names.say(HOST, "10.0.0.1")
    assert one.get() == ["10.0.0.1"]
    assert one.user.heard == ["gaierror", "gaierror", "answer"]


def test_second_look(names, desk) -> None:
    """When no address can be connected to, new ones are asked for, though the answer is young."""
    names.say(HOST, "10.0.0.1")
    one = desk()
    one.get()
    names.say(HOST, "10.0.0.1", "10.0.0.2")
    assert one.others("10.0.0.1") == []  # it was looked up this very second
    one.now += 1
    one.others("10.0.0.1")
    one.quiet()  # a busy machine may take longer than it was waited for
    assert one.others("10.0.0.1") == ["10.0.0.2"]
    assert names.asked == [HOST] * 2
    names.hang(HOST)
    one.now += 1
    assert one.others("10.0.0.1", "10.0.0.2") == []
    assert names.asked == [HOST] * 3


def test_second_look_without_time(names, desk) -> None:
    """With the deadline over nothing is waited for, but the look-up begins."""
    names.say(HOST, "10.0.0.1")
    one = desk()
    one.get()
    names.say(HOST, "10.0.0.2")
    names.hang(HOST)
    one.now += 1
    assert one.others("10.0.0.1", seconds=-1) == []
    names.let_go()
    one.quiet()
    assert one.get() == ["10.0.0.2"]


@pytest.mark.parametrize("known", [False, True])
def test_no_thread(names, desk, monkeypatch, known) -> None:
    """Without a thread an answer that is there is used; else the call fails at once."""
    names.say(HOST, "10.0.0.1")
    one = desk()
    if known:
        one.get()
        one.now += 100

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        if known:
            assert one.get() == ["10.0.0.1"]
        else:
            with pytest.raises(NotBegun):
                one.get()
        one.resolver.refresh()
    one.now += 1
    assert one.get() == ["10.0.0.1"]


def test_refresh(names, desk) -> None:
    """It asks in the background, unless that has just been done."""
    names.say(HOST, "10.0.0.1")
    one = desk()
    one.get()
    names.say(HOST, "10.0.0.2")
    one.resolver.refresh()
    assert names.asked == [HOST]
    one.now += 1
    one.resolver.refresh()
    one.quiet()
    assert (one.get(), one.user.heard) == (["10.0.0.2"], ["answer", "answer", "moved"])


def test_address_needs_none_of_it(names) -> None:
    """An address is not looked up, and has no user to be told."""
    resolver = Resolver("127.0.0.1", 1, 30.0)
    resolver.watch(User())
    resolver.refresh()
    [only] = resolver.get(0.0, time.monotonic)
    assert resolver.others([only], time.monotonic() + FAR, time.monotonic) == []
    assert asyncio.run(resolver.others_async([only], FAR)) == []
    resolver.unwatch(User())


def test_one_name_for_all(names) -> None:
    """Resolvers of one host share its answer and its look-up; none keeps it for ever."""
    names.say("shared.example", "10.0.0.1")
    one, other = (Resolver("shared.example", port, 30.0) for port in (1, 2))
    far = time.monotonic() + FAR
    assert [each.get(far, time.monotonic)[0].where for each in (one, other)] == [
        ("10.0.0.1", 1),
        ("10.0.0.1", 2),
    ]
    assert names.asked == ["shared.example"]


def test_user_that_left(names, desk) -> None:
    """Who does not use the name any more hears nothing; nor is it kept alive by it."""
    names.say(HOST, "10.0.0.1")
    one = desk()
    one.resolver.unwatch(one.user)
    gone = User()
    one.resolver.watch(gone)
    del gone
    one.get()
    assert one.user.heard == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_fork(names) -> None:
    """A child has the answer of its parent, and waits for no thread of it."""
    names.say(HOST, "10.0.0.1")
    one = Desk(names, "sync", 30.0)
    one.get()
    names.hang(HOST)
    one.now += 100
    one.get()
    child = os.fork()
    if not child:
        code = 9
        try:
            before = len(names.asked)
            names._hanging.clear()
            names.say(HOST, "10.0.0.2")
            one.now += 100
            one.get()
            one.quiet()
            code = int(one.get() != ["10.0.0.2"] or len(names.asked) != before + 1)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_threads_are_bounded() -> None:
    """What finds no thread waits its turn, and has it when another ends."""
    go, done = threading.Event(), threading.Semaphore(0)
    began: list[int] = []
    threads = LookupThreads(3)

    def work(number: int) -> None:
        began.append(number)
        go.wait(FAR)
        done.release()

    for number in range(20):
        threads.run(lambda number=number: work(number), None)
    until(lambda: len(began) >= 3)
    assert sorted(began) == [0, 1, 2]
    go.set()
    for _ in range(20):
        assert done.acquire(timeout=FAR)
    assert sorted(began) == list(range(20))
    threads.run(lambda: work(20), None)
    assert done.acquire(timeout=FAR)


def test_thread_that_is_not_given(monkeypatch) -> None:
    """What finds no thread because the system has none is not done later either."""
    threads = LookupThreads(1)
    done: list[int] = []

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for number in range(3):
            with pytest.raises(Exception, match="no thread"):
                threads.run(lambda number=number: done.append(number), None)
    over = threading.Event()
    threads.run(over.set, None)
    assert over.wait(FAR)
    assert done == []
