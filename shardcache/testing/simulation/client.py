"""A simulated client: drives the real flows in virtual time, as the drivers do in real time.

It shows the flows what the drivers show them: answers in any order, in time, too late or never;
errors of connections; the end of a timeout; a cancellation at any step. While the client is paused
nothing reaches it, and its clock goes on.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from shardcache.errors import ShardTimeout, ShardUnavailable
from shardcache.flows.lock import VoterRegistry
from shardcache.flows.lock.membership import Electorate
from shardcache.flows.lock.scripts import ACQUIRE
from shardcache.flows.steps import SERVER_TICK, Batch, Broadcast, Listen, ServerRun, Sleep
from shardcache.testing.simulation.connection import Fate, Message, SimulatedConnection
from shardcache.testing.simulation.judge import Grant, Judge
from shardcache.testing.simulation.scenario import ClientPlan, Scenario
from shardcache.testing.simulation.server import Server
from shardcache.testing.simulation.words import worded
from shardcache.testing.simulation.world import World

__all__ = ("Cancelled", "Client", "Life", "Write")


class Cancelled(BaseException):
    """Thrown into a flow when its caller is cancelled (asyncio) or interrupted (sync)."""


@dataclass(frozen=True, slots=True)
class Write:
    """A step of simulated clients only: write to the fenced store.

    ``grant``: the acquisition whose fencing token is written with.
    """

    grant: Grant


Life = Generator[Any, Any, None]

_FATES: tuple[Fate, ...] = ("lost", "late", "silent", "unanswered", "unheard")
_LATE = ShardTimeout("voter", "did not answer in time")
_BROKEN = ShardUnavailable("voter", "connection lost")


class Client:
    """One client. Its life is a generator that yields steps; `begin` starts it.

    ``name``: how notes name the client.
    ``plan``: what it does, and how its clock runs.
    ``scenario``: the chances of faults.
    ``world``: virtual time.
    ``judge``: what looks for violations.
    ``servers``: all servers; a step names them by their index.
    ``registry``: what its process knows of the voters.
    """

    __slots__ = (
        "_blocking",
        "_connections",
        "_left",
        "_offset",
        "_open",
        "_rate",
        "_serial",
        "_step",
        "_world",
        "asked",
        "cuts",
        "dead",
        "done",
        "electorate",
        "frozen",
        "judge",
        "life",
        "lost_time",
        "may_cancel",
        "name",
        "operation",
        "plan",
        "registry",
        "rng",
        "scenario",
        "servers",
    )

    def __init__(
        self,
        name: str,
        plan: ClientPlan,
        scenario: Scenario,
        world: World,
        judge: Judge,
        servers: Sequence[Server],
        registry: VoterRegistry,
    ) -> None:
        self.name = name
        self.plan = plan
        self.scenario = scenario
        self.judge = judge
        self.servers = servers
        self.registry = registry
        self.electorate: Electorate | None = None
        self.rng = Random(plan.rng)
        self.life: Life
        # For each server: true time until which no message goes there or comes from there.
        self.cuts: dict[int, float] = {}
        # Pauses, and the end of its life.
        self.frozen = 0.0  # true time until which it is paused
        self.lost_time = 0.0  # true seconds that it has been paused for
        self.asked = 0.0  # true time at which it last asked for the lock
        self.dead = False
        self.done = False
        self.may_cancel = False
        self.operation = 0
        # Its clock, its connections, and the step that it waits for.
        self._world = world
        self._rate = 1 + plan.drift
        self._offset = plan.clock
        self._connections: list[SimulatedConnection | None] = [None] * len(servers)
        self._blocking: list[SimulatedConnection | None] = [None] * len(servers)
        self._serial = 0
        self._step: Any = None  # what it waits for
        self._open: list[bool] = []
        self._left = 0

    # What the client itself can see.

    def clock(self) -> float:
        return self._offset + self._rate * self._world.now

    def believes(self, grant: Grant) -> bool:
        return grant.lease.valid_until > self.clock()

    @property
    def now(self) -> float:
        """True time, for the judge only."""
        return self._world.now

    def note(self, what: str) -> None:
        if self._world.notes is not None:
            self._world.note(self.name, what)

    def later(self, seconds: float, act: Callable[[Any], None], subject: Any) -> None:
        """Plan a call of ``act(subject)`` after so many true seconds."""
        self._world.at(self._world.now + seconds, act, subject)

    # What others do to the client.

    def begin(self, life: Life) -> None:
        self.life = life
        self._world.at(self._world.now, self._awake, self._serial)

    def freeze(self, seconds: float) -> None:
        now = self._world.now
        until = max(self.frozen, now + seconds)
        self.lost_time += until - max(self.frozen, now)
        self.frozen = until
        self.note(f"paused until {until:.4f}")

    def crash(self) -> None:
        self.dead = True
        self.note("crashed")

    def cancel(self, operation: int) -> None:
        """Throw a cancellation into an operation, if it is still under way."""
        if self.dead or operation != self.operation or not self.may_cancel:
            return
        if self.frozen > self._world.now:
            self._world.at(self.frozen, self.cancel, operation)
            return
        self.note("cancelled")
        self.may_cancel = False
        if self.rng.random() < 0.5:  # as the sync driver, which closes connections that it reads
            self._drop_open(1.0)
        self._go(None, Cancelled())

    # The driver of its flows.

    def _go(self, value: Any, error: BaseException | None = None) -> None:
        """Resume the life with the outcome of its step, and carry out what it yields."""
        life, status, pause = self.life, self.rng.random, self.scenario.pause
        self._step = None
        try:
            while True:
                step = life.send(value) if error is None else life.throw(error)
                error = None
                if pause and status() < pause:
                    self.freeze(self.scenario.ttl * self.rng.choice((0.05, 0.5, 2.0)) * status())
                    self._world.at(self.frozen, self._later, step)
                    return
                if not self._perform(step):
                    return
                value = None
        except StopIteration:
            self.done = True
        except Exception as wrong:  # noqa: BLE001  whatever a flow raises is a finding
            self.done = True
            self.judge.found("error", f"{self.name}: {wrong!r}")

    def _later(self, step: Any) -> None:
        if self.frozen > self._world.now:
            self._world.at(self.frozen, self._later, step)
        elif not self.dead and self._perform(step):
            self._go(None)

    def _perform(self, step: Any) -> bool:
        """Begin a step; return whether it is over at once."""
        # Every step has a number: answers to an older step are told apart by it.
        self._serial += 1
        world = self._world
        kind = step.__class__
        if kind is Broadcast:
            return self._broadcast(step)
        # The other steps end by an event: the end of a sleep, an answer, or a write.
        self._step = step
        if kind is Sleep:
            world.at(world.now + step.seconds / self._rate, self._awake, self._serial)
        elif kind is Listen:
            connection = self._blocking[step.shard]
            if connection is None or connection.broken:
                connection = self._blocking[step.shard] = SimulatedConnection(
                    self.servers[step.shard]
                )
            self._send(Message(self, connection, -1, self._serial, step.command, False, ""))
            end = world.now + (step.timeout + SERVER_TICK) / self._rate
            world.at(end, self._deaf, (self._serial, connection))
        else:
            world.at(
                world.now + self.scenario.delay * self.rng.random(),
                self._write,
                (step, self._serial),
            )
        return False

    def _broadcast(self, step: Broadcast) -> bool:
        # Without ``on_reply`` nobody waits for the replies.
        world, serial = self._world, self._serial
        batches = step.batches
        if batches[0].commands[0][1] is ACQUIRE:
            self.asked = world.now
        if step.on_reply is not None:
            self._step = step
            self._left = len(batches)
            self._open = [True] * len(batches)
        for place, batch in enumerate(batches):
            self._send(
                Message(
                    self,
                    self._connection(batch),
                    place,
                    serial,
                    batch.commands[0],
                    batch.idempotent,
                    "",
                )
            )
        if step.on_reply is None:
            return True
        # The timeout runs on the client's own clock.
        timeout = min(step.timeout, step.limit)
        world.at(world.now + timeout / self._rate, self._overdue, serial)
        return False

    def _connection(self, batch: Batch) -> SimulatedConnection:
        connection = self._connections[batch.shard]
        if connection is None or connection.broken:
            connection = self._connections[batch.shard] = SimulatedConnection(
                self.servers[batch.shard]
            )
        return connection

    def _away(self, place: int) -> float:
        """Return the seconds that a message takes to a server, or back from it."""
        status, scenario = self.rng.random, self.scenario
        delay = scenario.delay * (0.5 + status()) * self.plan.far[place]
        if scenario.slow and self._world.now < scenario.calm and status() < scenario.slow:
            delay += scenario.slowest * status()
        until = self.cuts.get(place)
        if until is not None and until > self._world.now:
            delay += until - self._world.now
        return delay

    def _send(self, message: Message) -> None:
        world, connection, scenario = self._world, message.connection, self.scenario
        now, place = world.now, connection.server.place
        delay = self._away(place)
        if scenario.loss and now < scenario.calm and self.rng.random() < scenario.loss:
            message.fate = self.rng.choice(_FATES)
        elif self.cuts.get(place, 0.0) > now and self.rng.random() < 0.5:
            message.fate = "silent"
        connection.arrived = arrives = max(connection.arrived, now + delay)
        fate = message.fate
        if fate == "silent":
            connection.broken = True
            return
        if fate in ("lost", "late"):
            world.at(now + delay, self._fail, message)
            if fate == "lost":
                return
            arrives += scenario.slowest * self.rng.random()
        world.at(arrives, self._deliver, message)

    def _deliver(self, message: Message) -> None:
        """Let a request arrive at its server. The client may be paused or gone meanwhile."""
        world, connection = self._world, message.connection
        server, now = connection.server, world.now
        # A paused server answers later, one that is down or has restarted not at all.
        if server.frozen > now:
            world.at(server.frozen, self._deliver, message)
            return
        if server.back > now or (connection.life is not None and connection.life != server.life):
            world.at(now + self._away(server.place), self._fail, message)
            return
        if connection.life is None:
            connection.life, connection.age = server.life, server.age(now)
        # The server carries out the command.
        command = message.command
        message.reply = reply = server.execute(command, now)
        if world.notes is not None:
            world.note(
                server.name,
                f"{self.name}: {worded(command, reply)}{message.fate and f' ({message.fate})'}",
            )
        # BLPOP without an element waits; a push by another command may serve it.
        if message.place < 0 and reply is None:
            server.waiting.setdefault(command[1], []).append(message)
            world.at(now + server.true_span(float(command[2])), self._unheard, message)
            return
        if server.waiting:
            self._serve(server)
        self._answer(message)

    def _answer(self, message: Message) -> None:
        """Send a reply on its way."""
        world, connection, fate = self._world, message.connection, message.fate
        back = world.now + self._away(connection.server.place)
        if not fate:
            connection.answered = back = max(connection.answered, back)
            world.at(back, self._arrive, message)
        elif fate == "unanswered":
            world.at(back, self._fail, message)
        elif fate == "unheard":
            connection.broken = True

    def _serve(self, server: Server) -> None:
        """Give pushed elements to waiting clients, in the order in which they came."""
        for key, waiters in list(server.waiting.items()):
            while waiters and server.db.exists(key):
                message = waiters.pop(0)
                if message.client.dead:
                    continue
                message.reply = server.pop(key)
                message.client._answer(message)
            if not waiters:
                del server.waiting[key]

    def _unheard(self, message: Message) -> None:
        """End a server's wait for a push: the time of a BLPOP is over."""
        waiters = message.connection.server.waiting.get(message.command[1], ())
        if isinstance(waiters, list) and message in waiters:
            waiters.remove(message)
            self._answer(message)

    def _ready(self, act: Any, subject: Any) -> bool:
        """Whether an event can reach the client now; if it is paused, the event comes later."""
        if self.frozen > self._world.now:
            self._world.at(self.frozen, act, subject)
            return False
        return not self.dead

    def _arrive(self, message: Message) -> None:
        if not self._ready(self._arrive, message):
            return
        connection, step = message.connection, self._step
        if connection.broken:
            return
        if connection.born is None:
            connection.born = self.clock() - connection.age
        if message.serial != self._serial or step is None:
            return
        if message.place < 0:
            self._go(message.reply)
        elif self._open[message.place]:
            self._count(
                message.place,
                [message.reply],
                ServerRun(connection.life or b"", self.clock() - connection.born),
            )

    def _count(self, place: int, outcome: Any, run: ServerRun | None) -> None:
        self._open[place] = False
        self._left -= 1
        if self._step.on_reply(place, outcome, run) or not self._left:
            self._go(None)

    def _fail(self, message: Message) -> None:
        """Let the client learn that a connection is lost."""
        if not self._ready(self._fail, message):
            return
        message.connection.broken = True
        if message.idempotent and self.rng.random() < 0.5:
            place = message.connection.server.place
            connection = self._connections[place]
            if connection is None or connection.broken:
                connection = self._connections[place] = SimulatedConnection(
                    message.connection.server
                )
            self._send(
                Message(self, connection, message.place, message.serial, message.command, False, "")
            )
        elif message.serial == self._serial and self._step is not None:
            if message.place < 0:
                self._go(_BROKEN)
            elif self._open[message.place]:
                self._count(message.place, _BROKEN, None)

    def _drop_open(self, chance: float) -> None:
        """Close connections that owe an answer to the current step, each by this chance."""
        if self._step.__class__ is Broadcast:
            for still, batch in zip(self._open, self._step.batches, strict=True):
                connection = self._connections[batch.shard]
                if still and connection is not None and self.rng.random() < chance:
                    connection.broken = True

    def _overdue(self, serial: int) -> None:
        if serial != self._serial or self._step is None or not self._ready(self._overdue, serial):
            return
        on_reply = self._step.on_reply
        for place, still in enumerate(self._open):
            if still:
                on_reply(place, _LATE, None)
        self._drop_open(0.5)  # as the drivers, which do not keep an overdue connection for ever
        self._go(None)

    def _deaf(self, subject: tuple[int, SimulatedConnection]) -> None:
        serial, connection = subject
        if serial == self._serial and self._step is not None and self._ready(self._deaf, subject):
            connection.broken = True
            self._go(_LATE)

    def _awake(self, serial: int) -> None:
        if serial == self._serial and self._ready(self._awake, serial):
            self._go(None)

    def _write(self, subject: tuple[Write, int]) -> None:
        """Let a write reach the store, whether its client is paused or not."""
        step, serial = subject
        took = self.judge.writes(step.grant)
        if self._world.notes is not None:
            said = "taken" if took else "refused: it has seen a newer token"
            self._world.note(
                "store", f"write of {self.name} with token {step.grant.lease.fence}: {said}"
            )
        self._awake(serial)
