"""Forced interleavings: loads, deletes and sets of one key, command by command.

A seed decides the order. Each actor is a process. Its commands to one server arrive there in
order; commands to different servers, or of different actors, arrive in any order, even if they were
sent in one write. A loader takes as long as the seed wants. The judge knows the true order:

violation  what it means
---------  ---------------------------------------------------------------------------------------
overwrote  a fill stored a value that was loaded before a set took effect, or before a delete began
two-loads  two loaders ran at the same time although a quorum answered and no lock had ended
again      a loader ran although the value was there and nothing had been written since
no-end     an actor does not come to its end
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from shardcache.errors import LoadFailed, ShardUnavailable
from shardcache.flows.context import ClientContext
from shardcache.flows.load import LoadContext, LoadRequest, load_once_flow, scripts
from shardcache.flows.lock.planner import LockPlanner
from shardcache.flows.one_command import keys_of
from shardcache.flows.steps import (
    Batch,
    Broadcast,
    Exchange,
    Flow,
    Listen,
    Load,
    ServerRun,
    SingleFlight,
    Sleep,
    Step,
    exchange,
)
from shardcache.flows.voter_steps import at_slots
from shardcache.policy import LoadPolicy
from shardcache.resp import Command
from shardcache.stats import LoadTally
from shardcache.testing.simulation.database import Database
from shardcache.testing.simulation.load_scripts import execute
from shardcache.testing.simulation.migration import MapOfOne, SlotMigration, followed
from shardcache.topology.nodes import members

__all__ = ("KEY", "Act", "History", "interleave")

KEY = "k"
Act = Literal["load", "delete", "set"]
_MOST = 4000  # commands in one history
_CORE = ClientContext(
    members([f"redis://server-{n}" for n in range(3)]),
    namespace="",
    default_ttl=60,
    serializer="safe",
    compression=None,
    timeout=1.0,
    on_unavailable="degrade",
    options=None,
)
_WIRE = _CORE.keys.wire(KEY)
_OUT = ShardUnavailable("server", "is gone")


@dataclass(slots=True)
class History:
    """What came of one order of commands.

    ``violations``: what the judge found.
    ``loads``: how often a loader ran.
    ``stored``: fills that were stored.
    ``refused``: fills that were not stored.
    ``commands``: how many steps the history had.
    """

    violations: list[str] = field(default_factory=list)
    loads: int = 0
    stored: int = 0
    refused: int = 0
    commands: int = 0


@dataclass(slots=True, eq=False)
class _Message:
    command: Command
    place: int  # of the batch in the step
    step: Any


class _Actor:
    """One process that loads, deletes or sets the key once."""

    def __init__(self, stage: "_Stage", name: str, flow: Flow[Any]) -> None:
        self.stage = stage
        self.name = name
        self.flow = flow
        self.asking: set[int] = set()  # the servers that carry out its next command after ASKING
        self.queues: list[list[_Message]] = [[] for _ in stage.dbs]
        self.step: Any = None
        self.outcomes: list[Any] = []
        self.due: list[int] = []
        self.ready: tuple[Any] | None = (None,)
        self.over = False
        self.begun = False  # it has had an effect
        self.loading: int | None = None

    def choices(self) -> Iterator[int]:
        """Yield what can happen next: a shard that carries out a command, or -1 for the flow."""
        yield from (shard for shard, queue in enumerate(self.queues) if queue)
        if self.ready is not None:
            yield -1

    def go_on(self) -> None:
        [value] = self.ready or (None,)
        self.ready = None
        if self.loading is not None:
            self.stage.loaders -= 1
            value, self.loading = self.loading, None
        try:
            self._perform(self.flow.send(value))
        except StopIteration:
            self.over = True
        except LoadFailed:
            self.over = True

    def _perform(self, step: Step) -> None:
        stage = self.stage
        self.step = step
        match step:
            case Exchange(batches) | Broadcast(batches):
                self.outcomes = [[] for _ in batches]
                self.due = [len(batch.commands) for batch in batches]
                for place, batch in enumerate(batches):
                    self.queues[batch.shard] += [
                        _Message(one, place, step) for one in batch.commands
                    ]
                if isinstance(step, Broadcast) and step.on_reply is None:
                    self.ready = (None,)
            case Listen(shard, command):
                self.outcomes, self.due = [[]], [1]
                self.queues[shard].append(_Message(command, 0, step))
            case Sleep(seconds):
                stage.now += seconds
                self.ready = (None,)
            case Load():
                self.loading = stage.loader_begins()
                self.ready = (None,)
            case SingleFlight():
                raise AssertionError("every actor is a process of its own")

    def carry_out(self, shard: int) -> None:
        """Let a server carry out the next command of this actor."""
        # A reply to an older step, or to a step that waits for no reply, is dropped.
        stage = self.stage
        message = self.queues[shard].pop(0)
        reply = _OUT if shard in stage.out else stage.answer(self, shard, message.command)
        step = message.step
        if step is not self.step or (isinstance(step, Broadcast) and step.on_reply is None):
            return
        # The flow goes on when it has the replies that its step waits for.
        self.outcomes[message.place].append(reply)
        self.due[message.place] -= 1
        if isinstance(step, Listen):
            if reply is None:
                stage.now += step.timeout
            self.ready = (reply,)
        elif not self.due[message.place]:
            outcome = self.outcomes[message.place]
            if reply is _OUT:
                outcome = self.outcomes[message.place] = _OUT
            if isinstance(step, Broadcast):
                run = None if outcome is _OUT else ServerRun(b"life-%d" % shard, 1000.0)
                if (
                    step.on_reply is not None and step.on_reply(message.place, outcome, run)
                ) or not any(self.due):
                    self.ready, self.step = (None,), None
            elif not any(self.due):
                self.ready = (self.outcomes,)


class _Stage:
    def __init__(
        self, seed: int, acts: Sequence[Act], *, jumps: bool, outage: bool, migrates: bool
    ) -> None:
        self.rng = Random(seed)
        self.now = 1000.0
        self.dbs = [Database() for _ in range(3 + migrates)]
        self.history = History()
        self.loaders = 0
        self.clean = True  # no lock has ended of itself, and the key's own shard is there
        self.time = 0  # the true order
        self.voided = 0  # when the last delete began to take effect
        self.written = 0  # when the last set took effect
        self.overwritten = False  # a fill has stored what was older than a write
        self.loaded: dict[bytes, int] = {}  # stored form -> when its loader began
        self.numbers = 0
        owner = _CORE.topology.owner_index(_WIRE)
        self.migration = SlotMigration(self.dbs, owner, 3, self.rng) if migrates else None
        self.out = {(owner + 1) % 3} if outage else set()
        self.jumps = jumps
        self.actors = [self._actor(number, act) for number, act in enumerate(acts)]

    def _context(self, name: str) -> LoadContext:
        def new_token(kind: str) -> bytes:
            self.numbers += 1
            return f"{kind}-{name}-{self.numbers}".encode()

        clock = lambda: self.now  # noqa: E731
        return LoadContext(
            _CORE.codec,
            _CORE.reply_policy,
            LockPlanner(_CORE),
            clock,
            self.rng.random,
            new_token,
            lambda: bytes(16),
            LoadTally(),
            _CORE.timeout,
            1000,
            bytes,
        )

    def _actor(self, number: int, act: Act) -> _Actor:
        name = f"{act}-{number}"
        flow: Flow[Any]
        # A load is the whole flow of the client, whose policy waits as long as is needed.
        if act == "load":
            context = self._context(name)
            policy = LoadPolicy(beta=0, lock_ttl=3, wait=600)
            order = LoadRequest(
                (context.load_key(KEY, _WIRE, policy),),
                lambda: None,
                60_000,
                policy,
                (),
                single=True,
                name=name,
                budget=context.budget(),
            )
            flow = load_once_flow(order, context, patient=True)
        # A write is the request of the client, with the command before it that invalidates loads.
        else:
            request = (
                _CORE.requests.delete(KEY)
                if act == "delete"
                else _CORE.requests.set(KEY, f"set-{number}")
            )
            commands = [*([request.invalidates] if request.invalidates else []), request.command]
            flow = exchange([Batch(_CORE.topology.owner_index(_WIRE), commands, True)])
        if self.migration is not None:
            links: Any = MapOfOne(self.migration)
            clock = lambda: self.now  # noqa: E731
            flow = at_slots(flow, links, clock, self.rng.random)
            flow = followed(flow, links, clock, self.rng.random, _CORE.timeout)
        return _Actor(self, name, flow)

    def loader_begins(self) -> int:
        """Note that a loader begins; return its result, which is the time of its beginning."""
        self.loaders += 1
        self.history.loads += 1
        if self.loaders > 1 and self.clean:
            self.history.violations.append("two-loads")
        stored = next(filter(None, (db.find(_WIRE) for db in self.dbs)), None)
        if (
            stored is not None
            and self.clean
            and self.loaded.get(stored, 0) > max(self.voided, self.written)
        ):
            self.history.violations.append("again")
        self.time += 1
        self.loaded[_CORE.codec.encode(self.time, _WIRE)] = self.time
        return self.time

    def answer(self, actor: _Actor, shard: int, command: Command) -> Any:
        """Return the reply of a server, which may be that another one has the slot."""
        migration = self.migration
        if migration is None:
            return self.execute(actor, shard, command)
        if command == (b"ASKING",):
            actor.asking.add(shard)
            return b"OK"
        asking = shard in actor.asking
        actor.asking.discard(shard)
        self.dbs[shard].now = int(self.now * 1e6)
        said = migration.redirect(shard, keys_of(command), asking=asking)
        if said is None:
            return self.execute(actor, shard, command)
        # Who waits too long for the keys of its claim to lie together loads without it.
        self.clean = False
        return said

    def execute(self, actor: _Actor, shard: int, command: Command) -> Any:
        self.time += 1
        db = self.dbs[shard]
        db.now = int(self.now * 1e6)
        reply = execute(db, command)
        if command[0] in (b"SET", b"UNLINK") and command[1] == _WIRE:
            self.overwritten = False
        if actor.name.startswith("delete") and not actor.begun:
            self.voided, actor.begun = self.time, True
        elif command[0] == b"SET" and command[1] == _WIRE and not actor.begun:
            self.written, actor.begun = self.time, True
        elif command[0] == b"EVAL" and command[1] is scripts.FILL:
            if reply == 1:
                self.history.stored += 1
                self.overwritten = self.loaded[command[-1]] < max(self.voided, self.written)
                # While the slot moves, a write may be carried out once more before its call ends.
                if self.overwritten and self.migration is None:
                    self.history.violations.append("overwrote")
            else:
                self.history.refused += 1
        return reply

    def run(self) -> History:
        rng = self.rng
        pace = 0.0 if self.migration is None else rng.choice((0.02, 0.1, 0.3))
        for self.history.commands in range(_MOST):
            choices = [(actor, what) for actor in self.actors for what in actor.choices()]
            if not choices:
                break
            if self.migration is not None and not self.migration.over and rng.random() < pace:
                self.migration.advance(self.now)
            actor, what = rng.choice(choices)
            if what < 0:
                actor.go_on()
            else:
                actor.carry_out(what)
            if self.jumps and rng.random() < 0.02:  # a pause longer than a lock lasts
                self.now += 3.5
                self.clean = False
        if self.overwritten and self.migration is not None:
            self.history.violations.append("overwrote")
        if not all(actor.over for actor in self.actors):
            self.history.violations.append("no-end")
        return self.history


def interleave(
    seed: int,
    acts: Sequence[Act],
    *,
    jumps: bool = False,
    outage: bool = False,
    migrates: bool = False,
) -> History:
    """Run one history.

    ``seed``: decides the order of the commands.
    ``acts``: what the actors do, one each.
    ``jumps``: whether locks may end while loaders run.
    ``outage``: whether one voter is out.
    ``migrates``: whether the key's slot moves to another server meanwhile, as in a Redis Cluster.
    """
    return _Stage(seed, acts, jumps=jumps, outage=outage, migrates=migrates).run()
