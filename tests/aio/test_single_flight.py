"""Single flight and loaders in virtual time, without a client: cancelled, late, and failed ones."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from shardcache.drivers.aio.loaders import AsyncLoads
from shardcache.drivers.aio.single_flight import AsyncFlights
from shardcache.errors import LoadTimeout, TooManyLoaders
from shardcache.flows.steps import FlightResult, Load, SingleFlight

KEY, OTHER = b"k", b"l"
MODES: dict[str, dict[str, Any]] = {
    "waits": {},
    "waits a while": {"own": 10.0},
    "in the background": {"background": True},
}


class Work:
    """What the flights do: it takes a second, and returns the number of the call for each key."""

    def __init__(self) -> None:
        self.calls: list[tuple[bytes, ...]] = []
        self.ended = 0
        self.error: Exception | None = None
        self.flights = AsyncFlights(self.run, most=2)

    async def run(self, work: Any, _budget: Any = None) -> Any:
        """Do the part of the driver: the flow of these tests is what is to be awaited."""
        return await work

    async def __call__(self, wires: tuple[bytes, ...]) -> dict[bytes, int]:
        self.calls.append(wires)
        number = len(self.calls)
        try:
            await asyncio.sleep(1)
        finally:
            self.ended += 1
        if self.error is not None:
            raise self.error
        return dict.fromkeys(wires, number)

    def start(self, *wires: bytes, wait: float = 10.0, **how: Any) -> "asyncio.Task[FlightResult]":
        step = SingleFlight(wires, self, wait, **how)
        return asyncio.create_task(self.flights(step))

    def assert_over(self) -> None:
        """No flight is left, in any of the books."""
        assert self.ended == len(self.calls)
        books = (self.flights._flights, self.flights._tasks, self.flights._background)
        assert [len(book) for book in books] == [0, 0, 0]


@pytest.fixture
def on(virtual) -> Callable[[Callable[[Work], Any]], None]:
    """Run a scene, a coroutine function, with work; at its end no flight is left."""

    def run_scene(scene: Callable[[Work], Any]) -> None:
        async def main() -> None:
            work = Work()
            await scene(work)
            await asyncio.sleep(5)
            work.assert_over()

        virtual(main())

    return run_scene


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("turns", range(6))
def test_cancelled_in_any_turn(on, mode: str, turns: int) -> None:
    """Who has joined gets the value, however far the task had come that began the flight."""

    async def scene(work: Work) -> None:
        first = work.start(KEY, **MODES[mode])
        for _ in range(turns):
            await asyncio.sleep(0)
        joined = work.start(KEY)
        await asyncio.sleep(0)
        first.cancel()
        found = await joined
        assert KEY in found.values or not first.cancelled()
        assert len(work.calls) <= 2

    on(scene)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("later", range(5))
def test_alone_and_cancelled(on, mode: str, turns: int, later: int) -> None:
    """A flight that no task waits for is cancelled, unless it was to go on; none joins it then."""

    async def scene(work: Work) -> None:
        call = work.start(KEY, **MODES[mode])
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        for _ in range(later):
            await asyncio.sleep(0)
        after = work.start(KEY)
        assert (await after).values[KEY] in (1, 2)
        if later < 4:  # it may have joined before the flight was left
            return
        goes_on = mode == "in the background" and not call.cancelled()
        assert len(work.calls) == (1 if goes_on or turns == 0 else 2)

    on(scene)


def test_goes_on_without_its_caller(on) -> None:
    """A caller that waits a while for its own flight gets nothing, and the next one its value."""

    async def scene(work: Work) -> None:
        assert await work.start(KEY, own=0.5) == FlightResult({})
        assert await work.start(KEY) == FlightResult({KEY: 1})

    on(scene)


def test_others_have_one_wait_together(on) -> None:
    """All flights of others are waited for within one time; the keys that are late are named."""

    async def scene(work: Work) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        early = work.start(KEY)
        await asyncio.sleep(0.8)
        late = work.start(OTHER)
        await asyncio.sleep(0)
        assert await work.start(KEY, OTHER, wait=0.5) == FlightResult({KEY: 1}, (OTHER,))
        assert loop.time() - begun == pytest.approx(1.3, abs=0.01)
        await asyncio.gather(early, late)

    on(scene)


@pytest.mark.parametrize("mode", ["waits", "waits a while"])
@pytest.mark.parametrize("error", [TimeoutError("of the loader"), ValueError("no")], ids=repr)
def test_error_is_everybodys(on, mode: str, error: Exception) -> None:
    """An error of the work is no lateness, not even a TimeoutError; the joined task gets a copy."""

    async def scene(work: Work) -> None:
        work.error = error
        calls = [work.start(KEY, **MODES[mode]), work.start(KEY)]
        own, copy = await asyncio.gather(*calls, return_exceptions=True)
        assert (own, type(copy), str(copy), copy is own) == (error, type(error), str(error), False)

    on(scene)


def test_bound_on_those_that_go_on(on) -> None:
    """So many flights go on without a caller; to join one, or to wait for one's own, is free."""

    async def scene(work: Work) -> None:
        for wire in (KEY, OTHER):
            assert await work.start(wire, background=True) == FlightResult({})
        with pytest.raises(TooManyLoaders):
            await work.start(b"m", background=True)
        assert await work.start(KEY, background=True) == FlightResult({})
        assert await work.start(b"m", KEY) == FlightResult({b"m": 3, KEY: 1})

    on(scene)


class Loaders:
    """`AsyncLoads` with room for two, and what it counts."""

    def __init__(self) -> None:
        work = Work()
        self.renewed = 0
        self.abandoned = 0
        self.loads = AsyncLoads(2, work.run, work.flights)

    async def renew(self) -> bool:
        self.renewed += 1
        return True

    def give_up(self) -> None:
        self.abandoned += 1

    def start(self, seconds: float, timeout: float | None) -> "asyncio.Task[Any]":
        step = Load(
            (KEY,),
            lambda: asyncio.sleep(seconds, "loaded"),
            timeout,
            gap=0.3,
            renew=self.renew,
            abandoned=self.give_up,
            wait=20.0,
        )
        return asyncio.create_task(self.loads(step))

    def assert_free(self) -> None:
        permits = self.loads._permits
        assert (permits._slots._value, permits._running, permits._abandoned) == (2, {}, {})


@pytest.mark.parametrize("timeout", [None, 5.0])
@pytest.mark.parametrize("turns", range(8))
def test_loaders_cancelled_in_any_turn(virtual, timeout: float | None, turns: int) -> None:
    """Of five, three wait for a permit. Whichever is cancelled, both permits are free again."""

    async def main() -> None:
        for at in range(5):
            loaders = Loaders()
            calls = [loaders.start(1.0, timeout) for _ in range(5)]
            await asyncio.sleep(1.0 if turns > 3 else 0.0)
            for _ in range(turns % 4):
                await asyncio.sleep(0)
            calls[at].cancel()
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert found.count("loaded") >= 4
            await asyncio.sleep(1)
            loaders.assert_free()

    virtual(main())


def test_renewal_goes_on_until_the_end(virtual) -> None:
    """While a loader waits and runs its locks are renewed, and no longer."""

    async def main() -> None:
        loaders = Loaders()
        assert await loaders.start(1.0, None) == "loaded"
        renewed = loaders.renewed
        await asyncio.sleep(5)
        assert (renewed, loaders.renewed) == (3, 3)
        loaders.assert_free()

    virtual(main())


def test_loader_that_takes_too_long(virtual) -> None:
    """It is cancelled, and as it ends at that, it is not abandoned."""

    async def main() -> None:
        loaders = Loaders()
        with pytest.raises(LoadTimeout):
            await loaders.start(9.0, 0.5)
        assert loaders.abandoned == 0
        loaders.assert_free()

    virtual(main())
