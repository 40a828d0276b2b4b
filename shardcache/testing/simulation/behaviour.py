"""What the simulated clients do with the lock.

They acquire it, work under it, extend it, hand it over, release it, or crash while they hold it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from shardcache.errors import (
    LockConflict,
    LockError,
    LockLost,
    LockNotAcquired,
    QuorumUnavailable,
    ShardError,
)
from shardcache.flows.lock import Lease, LockPlan, acquire, extend, release
from shardcache.flows.lock.adoption import adopt
from shardcache.flows.lock.inspection import VoterState, voter_state_of
from shardcache.flows.lock.scripts import LOOK
from shardcache.flows.lock.voter_change import begin, finish
from shardcache.flows.steps import Batch, Broadcast, Flow, Outcome, ServerRun, Sleep
from shardcache.testing.simulation.client import Cancelled, Client, Life, Write
from shardcache.testing.simulation.judge import Grant

__all__ = ("Heir", "heir_life", "life", "mover_life")

# What a holder does. One more style, "keep", is for stories only.
_STYLES = ("work", "work", "to the end", "quick", "die", "hand over", "hand over")
_KEEPS = 15  # how often a holder of the style "keep" extends
# The chance that a holder extends after a piece of work, by its style.
_EXTENDS = {"to the end": 0.15, "hand over": 0.8, "keep": 1.0}

# Called with holder token and fencing token: another client goes on with the lease.
Heir = Callable[[bytes, int], None]


def life(client: Client, plan: LockPlan, heir: Heir) -> Life:
    """Take the lock a few times; the life of an ordinary client."""
    yield Sleep(client.plan.start)
    for cycle in range(client.plan.cycles):
        if cycle:
            yield Sleep(client.rng.random() * plan.ttl * 0.3)
        grant = yield from _acquire(client, plan, b"%b-%d" % (client.name.encode(), cycle))
        if grant is not None:
            yield from _hold(client, plan, grant, heir)


def heir_life(client: Client, plan: LockPlan, token: bytes, fence: int) -> Life:
    """Go on with a lease that was handed over; the life of a client that adopts."""
    yield Sleep(client.rng.random() * plan.ttl * 0.1)
    try:
        own = client.name.encode()
        plans = [plan]
        if client.electorate is not None:
            plans = yield from client.electorate.refresh(plan)
        flow = adopt(
            *(plans[-1], token, own, fence),
            registry=client.registry,
            clock=client.clock,
            random=client.rng.random,
        )
        lease = yield from _cancellable(client, flow)
    except (LockLost, QuorumUnavailable) as error:
        client.note(f"adopts nothing: {error}")
        return
    if lease is None:
        return
    grant = Grant(client, lease, client.now, client.now)
    client.note(_held("adopted", client, lease))
    client.judge.holds(grant)
    yield from _hold(client, plan, grant, None)


def mover_life(client: Client, plan: LockPlan, names: tuple[str, ...], when: float) -> Life:
    """Let all servers vote, and forget the former voters as soon as possible."""
    electorate = client.electorate
    assert electorate is not None  # noqa: S101  the scenario gave it one
    yield Sleep(when)
    for last in (False, True):
        for _ in range(12):
            try:
                if last:
                    silent = yield from finish(electorate, plan, lambda: _ask_all(client, plan))
                else:
                    silent = yield from begin(electorate, plan, names)
                client.note(
                    f"changes voters, version {electorate.known.version.decode()}, not told: "
                    f"{sorted(silent)}"
                )
                break
            except (LockError, QuorumUnavailable) as error:
                client.note(f"cannot change voters: {error}")
                yield Sleep(plan.ttl * 0.5 * client.rng.random())
        yield Sleep(plan.ttl * 2 * client.rng.random())


def _ask_all(
    client: Client, plan: LockPlan
) -> Flow[tuple[dict[bytes, dict[str, VoterState]], frozenset[str]]]:
    """Ask every server which holder's key it has; return the answers, and who did not answer."""
    found: dict[str, VoterState] = {}
    silent = {server.name for server in client.servers}

    def take(place: int, outcome: Outcome, _: ServerRun | None) -> bool:
        if not isinstance(outcome, ShardError):
            name = client.servers[place].name
            silent.discard(name)
            seen = voter_state_of(outcome[0])
            if seen.token is not None:
                found[name] = seen
        return False

    commands = [plan.script(LOOK)]
    yield Broadcast(
        [Batch(server.place, commands, True) for server in client.servers], take, plan.voter_timeout
    )
    return {plan.wire: found}, frozenset(silent)


def _acquire(client: Client, plan: LockPlan, token: bytes) -> Flow[Grant | None]:
    # Try to acquire, with a random patience.
    rng = client.rng
    wait: float | None = rng.choice((0.0, plan.ttl, 3 * plan.ttl, None))
    client.note(f"acquires, wait {wait}")
    began, paused = client.clock(), client.lost_time
    flow = acquire(
        *(plan, client.registry),
        token=token,
        wait=wait,
        clock=client.clock,
        random=rng.random,
        electorate=client.electorate,
    )
    error: LockNotAcquired | None = None
    grant = None
    try:
        lease = yield from _cancellable(client, flow)
        if lease is not None:
            grant = Grant(client, lease, client.asked, client.now)
            client.note(_held("holds", client, lease))
            client.judge.acquired(grant)
    except LockNotAcquired as refused:
        error = refused
        client.note(f"{type(error).__name__}: {error}")
        if not isinstance(error, LockConflict | QuorumUnavailable):
            raise
    # The attempt must have ended in time; pauses of the client do not count. A client that learns
    # of a new membership asks for it, tells the servers, and tries again.
    spent = client.clock() - began - 1.01 * (client.lost_time - paused)
    news = 0 if client.electorate is None else 15
    if wait is not None and spent > wait + (5 + news) * plan.voter_timeout + 0.05:
        client.judge.found(
            "no-end", f"{client.name}: an acquire with wait={wait:g} took {spent:.4f} s"
        )
    return grant


def _hold(client: Client, plan: LockPlan, grant: Grant, heir: Heir | None) -> Life:
    rng, lease, clock = client.rng, grant.lease, client.clock
    style = (client.plan.style or rng.choice(_STYLES)) if heir else "to the end"
    rounds = 0
    if style == "quick":
        yield Write(grant)
    # Each round is some work, one write to the fenced store, and perhaps an extension.
    while style != "quick":
        yield Sleep(plan.ttl * rng.random() * (0.8 if style == "to the end" else 0.4))
        if clock() >= lease.valid_until:
            client.note("sees that the lease has ended")
            break
        yield Write(grant)
        if rng.random() < _EXTENDS.get(style, 0.4):
            if client.scenario.mixed and rng.random() < 0.5:
                plan = replace(plan, ttl=rng.choice((0.5, 2.0)) * client.plan.ttl)
            outcome = yield from _cancellable(
                client, extend(plan, lease, clock=clock, registry=client.registry)
            )
            client.note(f"extend: {outcome}")
            if outcome == "extended":
                client.judge.holds(grant)
            elif outcome == "lost":
                lease.ended = True
                break
        rounds += 1
        if rounds > _KEEPS if style == "keep" else style != "to the end" and rng.random() < 0.4:
            break
    # The end, by the style.
    if style == "die":
        client.crash()
        yield Sleep(0.0)
    elif style == "hand over" and heir is not None:
        client.judge.lets_go(grant)
        client.note("hands over")
        heir(lease.token, lease.fence)
        if rng.random() < 0.5:  # the text of a lease may arrive twice
            heir(lease.token, lease.fence)
    else:
        freed = yield from _cancellable(client, release(plan, lease))
        client.note(f"release: {freed}")


def _cancellable(client: Client, flow: Flow[Any]) -> Flow[Any]:
    """Run a flow whose caller may be cancelled; return None if it was."""
    client.operation += 1
    scenario = client.scenario
    if scenario.cancel and client.rng.random() < scenario.cancel:
        when = scenario.ttl * client.rng.choice((0.01, 0.1, 1.0)) * client.rng.random()
        client.later(when, client.cancel, client.operation)
    client.may_cancel = True
    try:
        return (yield from flow)
    except Cancelled:
        return None
    finally:
        client.may_cancel = False


def _held(how: str, client: Client, lease: Lease) -> str:
    return f"{how} it with token {lease.fence} for {lease.valid_until - client.clock():.4f} s"
