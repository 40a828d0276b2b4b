"""The closed vocabulary of flows.

A flow is a generator that decides; a driver does. It yields a step, and is sent what came of it:

    step          what the driver does                           what it sends back
    ------------  --------------------------------------------   ---------------------------------
    Exchange      sends each batch to its shard, all shards at   a list, one entry per batch: the
                  once, and waits for every answer, within one   list of its replies, or the
                  deadline                                       ShardError that took their place
    Broadcast     sends each batch to its shard, all shards at   None, as soon as ``on_reply`` has
                  once; gives every outcome to ``on_reply`` as   said that enough is known, all have
                  it comes in                                    answered, or the time is over
    Listen        waits for the reply to one blocking command,   the reply; None if there was none
                  on a connection of its own                     in time; or the ShardError
    Sleep         waits                                          None
    Load          runs the caller's loader, and ``renew`` in     what the loader returned; what it
                  the background while it runs                   raises is thrown into the flow
    SingleFlight  has ``work`` done for those keys that no call  a `FlightResult`; what the work
                  of this process loads already, and waits for   raises is thrown into the flow
                  the rest

A sync driver, an async driver and a simulator run the same flow. What is thrown into a flow (a
cancellation, say) may make it yield further steps, to tidy up: they are carried out as well.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from math import inf
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
    "last_reply",
)

T = TypeVar("T")
SERVER_TICK = 0.02  # seconds: a server looks ten times a second only for those whose time is over
Outcome = list[Reply] | ShardError


class Batch(NamedTuple):
    """Commands for one shard.

    ``shard``: its place in the topology.
    ``idempotent``: whether all commands may be sent again.
    ``validate``: says whether replies can be answers to these commands (None: they are checked by
    what the commands are). If they cannot, the connection is out of step, and the driver closes it.
    ``compensates``: whether they undo earlier commands that this shard may not have carried out
    yet. Then they are sent behind those even if it hangs (`Broadcast` only).
    ``after_pending``: whether they are sent behind all that this shard has still to answer, however
    much that is (`Broadcast` only).
    ``bulk``: whether they go over the connection for bulk, however few they are. Parts of one whole
    keep their order by that.
    ``reads``: whether the commands change nothing.
    ``packed``: the bytes of the commands, from a flow that makes them faster than the driver would.
    """

    shard: int
    commands: list[Command]
    idempotent: bool
    validate: Callable[[list[Reply]], bool] | None = None
    compensates: bool = False
    after_pending: bool = False
    bulk: bool = False
    reads: bool = False
    packed: bytes | None = None


class ServerRun(NamedTuple):
    """One life of a server process: its run id, and the least seconds that it has been up."""

    id: bytes
    age: float


@dataclass(frozen=True, slots=True)
class Exchange:
    """Ask several shards, and wait for every answer."""

    batches: list[Batch]


OnReply = Callable[[int, Outcome, ServerRun | None], bool]


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Ask several shards, and wait for no more answers than are needed.

    What comes in when enough is known is dropped. But on every shard the commands of later
    broadcasts take effect behind these. Batches that share one list of commands are packed once.

    ``on_reply``: is given the batch's place, its outcome, and which run of the server answered
    (None if that is unknown), and says whether enough is known. None: no answer is waited for.
    ``timeout``: seconds after which an answer is overdue, and its shard out.
    ``limit``: seconds after which the caller waits no more, though no answer may be overdue yet. A
        driver sets a lower one if that is all that is left of the call's budget.
    """

    batches: Sequence[Batch]
    on_reply: OnReply | None
    timeout: float
    limit: float = inf


@dataclass(frozen=True, slots=True)
class Listen:
    """Wait for one command that blocks on the server, such as BLPOP.

    ``timeout``: seconds. `SERVER_TICK` later the step ends, answered or not.
    """

    shard: int
    command: Command
    timeout: float


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait for a time, in seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """Run the caller's loader. What a generator does not let through comes as `LoaderEnded`.

    ``wires``: the wire keys that it loads.
    ``timeout``: seconds for its turn and its run together; None: however long it takes.
    ``gap``: seconds between two renewals, from now on, while it waits for its turn and while it
    runs.
    ``renew``: makes the flow of a renewal; when one returns False, there are no more.
    ``abandoned``: called when the loader is given up and cannot be ended, so that it runs on.
    ``wait``: without a timeout, the seconds without the end of any loader after which the wait for
    a turn ends.
    ``background``: whether it is part of a refresh in the background. Those are bounded by
    themselves (`SingleFlight`), and take no place of the loads that callers wait for.
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
    """A loader raised what would mean something else to a generator.

    ``error``: a StopIteration, StopAsyncIteration or GeneratorExit.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class FlightResult(NamedTuple):
    """What came of a `SingleFlight`.

    ``values``: by wire key, as far as there are any.
    ``timed_out``: the wire keys whose flights had not ended in time.
    """

    values: dict[bytes, Any]
    timed_out: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class SingleFlight:
    """Have work done for the keys that no other call of this process loads; wait for the others.

    ``wires``: the wire keys.
    ``work``: makes the flow that loads some of them.
    ``wait``: how long to wait for the flights of others, in seconds.
    ``own``: how long to wait for one's own, in seconds, which then goes on by itself. None: to its
    end; it ends with the last caller that waits for it.
    ``background``: whether to wait for nothing, and leave keys that others load to them.
    ``joined``: is told how many keys others load, before they are waited for.
    ``budget``: what the exchanges of the work may take together.
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


def gather(batches: Sequence[Batch], timeout: float) -> tuple[Broadcast, list[Outcome]]:
    """Return an `Exchange` as a `Broadcast`, and the list that its outcomes come into.

    So it can have a ``limit``, by which a shard that has not answered is not judged.

    ``timeout``: seconds after which an answer is overdue.
    """
    outcomes: list[Outcome | None] = [None] * len(batches)
    missing = set(range(len(batches)))

    def on_reply(place: int, outcome: Outcome, _: ServerRun | None) -> bool:
        outcomes[place] = outcome
        missing.discard(place)
        return not missing

    batches = [batch._replace(after_pending=True) for batch in batches]
    # All outcomes are filled by the end.
    return Broadcast(batches, on_reply, timeout), outcomes  # type: ignore[return-value]


def exchange(batches: list[Batch]) -> Flow[list[Outcome]]:
    """Yield one exchange and return its outcomes, typed: what a ``yield`` returns has no type."""
    outcomes: list[Outcome] = yield Exchange(batches)
    return outcomes


def last_reply(outcome: Outcome) -> Reply:
    """Return the last reply of an outcome; raise the last error, if there is any.

    So of two errors that of the command itself is raised, which says more than one before it.
    """
    if isinstance(outcome, ShardError):
        raise outcome
    for reply in reversed(outcome):
        if isinstance(reply, ShardError):
            raise reply
    return outcome[-1]
