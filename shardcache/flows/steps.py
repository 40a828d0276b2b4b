"""The closed vocabulary of flows.

A flow is a generator that decides; a driver does. It yields a step, and is sent what came of it:

    step        what the driver does                               what it sends back
    ---------   ------------------------------------------------   ---------------------------------
    Exchange    sends each batch to its shard, all shards at       a list, one entry per batch: the
                once, within one deadline                          list of its replies, or the
                                                                   ShardError that took their place
    Canvass     sends each batch to its shard, all shards at       None, as soon as ``take`` has said
                once; gives every outcome to ``take`` as it        that enough is known, all have
                comes in                                           answered, or ``patience`` is over
    Listen      waits for the reply to one blocking command,       the reply; None if there was none
                on a connection of its own                         in time; or the ShardError
    Sleep       waits                                              None
    Load        runs the caller's loader, and ``renew`` in         what the loader returned; what it
                the background while it runs                       raises is thrown into the flow
    Fly         has ``work`` done for those keys that nobody in    a `FlightResult`; what the work raises is
                this process does already, and waits for the rest  thrown into the flow

A sync driver, an async driver and a simulator run the same flow. What is thrown into a flow (a cancellation,
say) may make it yield further steps, to tidy up: they are carried out as well.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from shardcache.errors import ShardError
from shardcache.flows.budget import Budget
from shardcache.resp import Command, Reply

__all__ = (
    "SERVER_TICK",
    "Batch",
    "Broadcast",
    "Exchange",
    "FlightResult",
    "Flow",
    "Listen",
    "Load",
    "LoaderEnded",
    "OnReply",
    "Outcome",
    "ServerRun",
    "SingleFlight",
    "Sleep",
    "Step",
    "exchange",
    "gather",
    "limited",
)

T = TypeVar("T")
SERVER_TICK = 0.02  # seconds: a server looks ten times a second only for those whose time is over
Outcome = list[Reply] | ShardError


class Batch(NamedTuple):
    """Commands for one shard, by its place in the topology; ``idempotent`` if all may be sent again.

    ``fit`` says whether replies can be answers to these commands at all; if not, the connection is out
    of step and the driver closes it. ``undo``: the commands undo
    earlier ones that this shard may not have carried out yet, so they go out behind them even if it hangs. ``behind``: they go out behind
    whatever this shard has still to answer, however much that is (both: `Broadcast` only). ``bulk``: they go where much goes, however few they are: parts of one whole
    that keep their order. ``reads``: the commands change nothing.
    """

    shard: int
    commands: list[Command]
    idempotent: bool
    validate: Callable[[list[Reply]], bool] | None = None
    compensates: bool = False
    after_pending: bool = False
    bulk: bool = False
    reads: bool = False


class ServerRun(NamedTuple):
    """One life of a server process: its run id, and the seconds that it has been up at least."""

    id: bytes
    age: float


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange with several shards."""

    batches: list[Batch]


OnReply = Callable[[int, Outcome, ServerRun | None], bool]


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Ask several shards, and wait for no more answers than are needed.

    ``take`` is given the batch's place, its outcome, and who answered (None if unknown), and says whether
    enough is known. What comes in later is dropped; but on every shard commands of later steps take effect behind
    these. Batches that share one list of commands are packed once. ``take`` None: nobody waits for any answer.
    ``patience``: seconds after which an answer is overdue, and its shard out; ``limit``: seconds after which the caller waits no
    more, though an answer may not be overdue yet.
    """

    batches: Sequence[Batch]
    on_reply: OnReply | None
    timeout: float
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Listen:
    """Wait for one command that blocks on the server, such as BLPOP. Over `SERVER_TICK` seconds after ``patience``, answered or not."""

    shard: int
    command: Command
    timeout: float  # seconds


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait for a time."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """Run the caller's loader for the keys ``wires``, within ``patience`` seconds (None: however long it takes).

    Without ``patience`` the wait for a place ends too: when no loader has ended for ``wait`` seconds. ``behind``: it is part of a
    refresh behind a caller's back, which is bounded by itself (`SingleFlight`) and takes no place from those who wait for a value.

    From now on, while it waits for its turn and while it runs, ``renew()`` is a flow to be run every ``gap`` seconds, until it
    returns False. ``abandoned`` is called when it is given up but cannot be ended, so that it runs on. What a generator does not let through
    comes as `LoaderEnded`.
    """

    wires: tuple[bytes, ...]
    loader: Callable[[], Any]
    timeout: float | None
    gap: float
    renew: "Callable[[], Flow[bool]]"
    abandoned: Callable[[], None]
    wait: float
    background: bool = False


class LoaderEnded(Exception):
    """``error`` of a loader that would mean something else to a generator: StopIteration, StopAsyncIteration or GeneratorExit."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class FlightResult(NamedTuple):
    """What came of a `SingleFlight`: ``values`` by wire key, as far as there are any, and who was ``late``."""

    values: dict[bytes, Any]
    timed_out: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class SingleFlight:
    """Single flight: ``work`` is done for those of ``wires`` that nobody in this process is at, and the others are waited for.

    ``wait``: how long for the flights of others, in seconds. ``own``: how long for one's own, which then goes on without us (None: to
    its end, and it ends with the last who waits for it). ``behind``: wait for nothing; what others are at is left to them.
    ``joined`` is told how many keys others are at, before they are waited for. ``budget``: what the exchanges of the work may take.
    """

    wires: tuple[bytes, ...]
    work: "Callable[[tuple[bytes, ...]], Flow[dict[bytes, Any]]]"
    wait: float
    own: float | None = None
    background: bool = False
    joined: Callable[[int], None] | None = None
    budget: Budget | None = None


Step = Exchange | Broadcast | Listen | Sleep | Load | SingleFlight
Flow = Generator[Step, Any, T]


def gather(
    batches: Sequence[Batch], timeout: float, limit: float
) -> tuple[Broadcast, list[Outcome]]:
    """Return the step that does what an `Exchange` does, but waits for ``limit`` seconds at most, and the list that its outcomes come into.

    A shard that was given less than ``patience`` is not judged by it.
    """
    outcomes: list[Outcome | None] = [None] * len(batches)
    missing = set(range(len(batches)))

    def take(place: int, outcome: Outcome, _: ServerRun | None) -> bool:
        outcomes[place] = outcome
        missing.discard(place)
        return not missing

    batches = [batch._replace(after_pending=True) for batch in batches]
    return Broadcast(batches, take, timeout, limit), outcomes  # type: ignore[return-value]  # all are filled by the end


def limited(step: Broadcast, limit: float) -> Broadcast:
    """Return the same step, which waits for ``limit`` seconds at most."""
    return replace(step, limit=limit if step.limit is None else min(step.limit, limit))


def exchange(batches: list[Batch]) -> Flow[list[Outcome]]:
    """Yield one exchange and return its outcomes, typed (the one place that hides the ``Any``)."""
    outcomes: list[Outcome] = yield Exchange(batches)
    return outcomes
