"""Loading many keys: look at all, claim what is missing in one exchange, load it in one call, fill all in one exchange."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shardcache.codecs import Loaded
from shardcache.commands import Command
from shardcache.errors import DamagedPayload, InvalidArgument, LoadWaitTimeout, ShardError
from shardcache.flows.load.claim import Claim, Poll
from shardcache.flows.load.desk import LoadDesk, fingerprint
from shardcache.flows.load.job import Job
from shardcache.flows.load.tags import ensure, valid
from shardcache.flows.lock.hold import extend
from shardcache.flows.steps import Batch, Canvass, Flow, Load, Outcome, Run, Sleep, exchange
from shardcache.keys import Key
from shardcache.policy import Freshness, LoadPolicy

__all__ = ("Found", "load_many", "look_many")

_RENEWALS = 3  # in one ttl of the load lock


class Found:
    """What is known of the keys asked for: ``values`` to be returned, ``refresh`` of them to be refreshed, ``missing`` to be loaded."""

    __slots__ = ("missing", "refresh", "values")

    def __init__(self) -> None:
        self.values: dict[Key, Any] = {}
        self.refresh: list[Key] = []
        self.missing: list[Key] = []


def look_many(keys: Sequence[Key], wires: Sequence[bytes], desk: LoadDesk, policy: LoadPolicy) -> Flow[Found]:
    """Read value and time left of every key, all shards at once. What is stale counts as there, to be refreshed."""
    placement = desk.room.placement
    owners = placement.owner_indexes(list(wires))
    commands: dict[int, list[Command]] = {}
    for wire, owner in zip(wires, owners, strict=True):
        commands.setdefault(owner, []).extend([(b"GET", wire), (b"PTTL", wire)])
    outcomes = yield from exchange([Batch(shard, asked, True) for shard, asked in commands.items()])
    answers = {
        shard: iter([outcome] * len(asked) if isinstance(outcome, ShardError) else outcome)
        for (shard, asked), outcome in zip(commands.items(), outcomes, strict=True)
    }
    found = Found()
    tally = desk.ledger.tally
    tagged: list[tuple[Key, Loaded, Freshness]] = []
    for key, wire, owner in zip(keys, wires, owners, strict=True):
        raw, pttl = next(answers[owner]), next(answers[owner])
        error = next((one for one in (raw, pttl) if isinstance(one, ShardError)), None)
        if error is not None:
            desk.ledger.degraded(error.shard, "get_or_set_many", 1, error)
        if error is not None or raw is None:
            tally.misses += error is None
            found.missing.append(key)
            continue
        try:
            record, freshness = desk.judge(raw, pttl, wire, policy)
        except DamagedPayload as damage:
            desk.ledger.damaged(owner, "get_or_set_many", damage)
            found.missing.append(key)
            continue
        if freshness is Freshness.GONE:
            tally.misses += 1
            found.missing.append(key)
        else:
            tagged.append((key, record, freshness))
    kept = yield from valid([record for _, record, _ in tagged], desk)
    for (key, record, freshness), good in zip(tagged, kept, strict=True):
        if not good:
            tally.misses += 1
            found.missing.append(key)
            continue
        tally.hits += 1
        if record.negative:
            desk.tally.negative += 1  # it is known not to be there: left out, as a loader would leave it out
            continue
        found.values[key] = record.value
        if freshness is not Freshness.FRESH:
            desk.tally.stale += freshness is Freshness.STALE
            found.refresh.append(key)
    return found


def load_many(
    jobs: list[Job], loader: Callable[[list[Key]], Any], desk: LoadDesk, *, patient: bool
) -> Flow[dict[Key, Any]]:
    """Return what is loaded or found meanwhile. Not ``patient``: leave out what somebody else loads."""
    values: dict[Key, Any] = {}
    policy = jobs[0].policy
    end = desk.clock() + policy.wait
    first, longest = policy.poll
    pause = first
    while jobs:
        mine, others = yield from _claim_many(jobs, desk, values)
        if mine:
            values |= yield from _load_many(mine, loader, desk)
        if not others or not patient:
            return values
        desk.tally.waits += 1
        left = end - desk.clock()
        if left <= 0:
            if policy.on_wait_over == "raise":
                raise LoadWaitTimeout(
                    f"somebody else has been loading {len(others)} of the keys for more than {policy.wait:g} s"
                )
            unclaimed = [(job, Claim(b"", None, False, False, 0.0, None, -2, None)) for job in others]
            return values | (yield from _load_many(unclaimed, loader, desk))
        yield Sleep(min(left, pause * (0.5 + 0.5 * desk.luck())))
        pause = min(pause * 2, longest)
        jobs = others
    return values


def _claim_many(
    jobs: list[Job], desk: LoadDesk, values: dict[Key, Any]
) -> Flow[tuple[list[tuple[Job, Claim]], list[Job]]]:
    """Claim every key in one exchange. Put what is there by now into ``values``; return what is ours to load, and what others load."""
    if jobs[0].policy.protect != "fleet":
        return [(job, Claim(b"", None, False, False, 0.0, None, -2, None)) for job in jobs], []
    tokens = [desk.mint("load") for _ in jobs]
    polls = [Poll(job, desk) for job in jobs]
    asked: dict[int, list[tuple[int, int, int]]] = {}  # shard -> place of the job, place of the voter, how many replies
    commands: dict[int, list[Command]] = {}
    for at, (job, token) in enumerate(zip(jobs, tokens, strict=True)):
        for voter, shard in enumerate(job.plan.voters.shards):
            own = [job.claim(token, job.plan.ttl_ms, 0), *(job.read() if voter == 0 else ())]
            commands.setdefault(shard, []).extend(own)
            asked.setdefault(shard, []).append((at, voter, len(own)))
    shards = list(commands)
    certain = [False] * len(jobs)

    def take(place: int, outcome: Outcome, run: Run | None) -> bool:
        begin = 0
        for at, voter, replies in asked[shards[place]]:
            part = outcome if isinstance(outcome, ShardError) else outcome[begin : begin + replies]
            begin += replies
            certain[at] = polls[at].take(voter, part, run) or certain[at]
        return all(certain)

    sent = desk.clock()
    patience = max(job.plan.patience for job in jobs)
    try:
        yield Canvass([Batch(shard, commands[shard], True) for shard in shards], take, patience)
        for poll in polls:
            if poll.unvetted:
                yield from desk.register.vet(poll.job.plan, poll.ballot.runs)
                for other in polls:
                    other.ballot.recount(desk.register.roll(other.job.plan.voters))
    except GeneratorExit:
        raise
    except BaseException:
        yield from _give_up(list(zip(jobs, tokens, strict=True)))
        raise
    mine: list[tuple[Job, Claim]] = []
    others: list[Job] = []
    back: list[tuple[Job, bytes]] = []
    now = desk.clock()
    for job, token, poll in zip(jobs, tokens, polls, strict=True):
        found = poll.claim(token, sent, now)
        entry = desk.entry(job, found.raw, found.pttl)
        if entry is not None:
            back.append((job, token))
            if entry.value.__class__ is not Loaded:
                values[job.key] = entry.value
            elif not entry.value.negative:
                values[job.key] = entry.value.value
        elif found.lease is not None or not found.quorum:
            mine.append((job, found))
        else:
            back.append((job, token))
            others.append(job)
    if back:
        yield from _give_up(back)
    return mine, others


def _load_many(
    mine: list[tuple[Job, Claim]], loader: Callable[[list[Key]], Any], desk: LoadDesk
) -> Flow[dict[Key, Any]]:
    tally = desk.tally
    tally.loads += 1
    tally.alone += any(found.lease is None for _, found in mine)
    job = mine[0][0]
    policy = job.policy
    keys = [one.key for one, _ in mine]
    began = desk.clock()

    def renew() -> Flow[bool]:
        held = False
        for one, found in mine:
            if found.lease is not None:
                held |= (yield from extend(one.plan, found.lease, clock=desk.clock)) != "lost"
        return held

    try:
        tags = (yield from ensure(job.tags, desk, job.ttl_ms, policy.grace_ms)) if job.tags else ()
        results = yield Load(job.wire, lambda: loader(keys), policy.hard_timeout, job.plan.ttl / _RENEWALS, renew)
        took = desk.clock() - began
        if not isinstance(results, Mapping):
            raise InvalidArgument(
                f"the loader of many keys must return a mapping, it returned a {type(results).__name__}"
            )
        sealed = [
            (one, found, *desk.seal(one, results[one.key], took, tags or ()))
            for one, found in mine
            if one.key in results
        ]
    except GeneratorExit:
        raise
    except BaseException:
        tally.failures += 1
        yield from _give_up([(one, found.token) for one, found in mine])
        raise
    left_out = [(one, found.token) for one, found in mine if one.key not in results]
    fills = (
        [] if tags is None else [(one, found, raw, ms) for one, found, _, raw, ms in sealed if ms != 0 and found.home]
    )
    filled = {one.key for one, *_ in fills}
    left_out += [(one, found.token) for one, found, *_ in sealed if one.key not in filled]
    yield from _fill_many(fills, desk)
    if left_out:
        yield from _give_up(left_out)
    return {one.key: value for one, _, value, _, _ in sealed}


def _fill_many(fills: list[tuple[Job, Claim, bytes, int | None]], desk: LoadDesk) -> Flow[None]:
    """Store each on its own shard, and give the claims back on the others, in one exchange."""
    commands: dict[int, list[Command]] = {}
    homes: dict[int, list[int]] = {}
    for job, found, raw, ms in fills:
        for voter, shard in enumerate(job.plan.voters.shards):
            mine = commands.setdefault(shard, [])
            if voter == 0:
                homes.setdefault(shard, []).append(len(mine))
                mine.append(job.fill(found.token, fingerprint(found.raw), ms, raw))
            else:
                mine.append(job.give_up(found.token))
    if not fills:
        return
    shards = list(commands)
    waiting = set(homes)

    def take(place: int, outcome: Outcome, _: Run | None) -> bool:
        shard = shards[place]
        waiting.discard(shard)
        own = homes.get(shard, [])
        if isinstance(outcome, ShardError):
            if own:
                desk.ledger.note("dropped_write", outcome.shard, "get_or_set_many", len(own), outcome)
            desk.tally.not_stored += len(own)
        else:
            desk.tally.not_stored += sum(outcome[at] != 1 for at in own)
        return not waiting

    patience = max(job.plan.patience for job, *_ in fills)
    yield Canvass([Batch(shard, commands[shard], False) for shard in shards], take, max(patience, 0.1))


def _give_up(back: Sequence[tuple[Job, bytes]]) -> Flow[None]:
    """Give claims back on every voter, and wait for no answer."""
    commands: dict[int, list[Command]] = {}
    for job, token in back:
        for shard in job.plan.voters.shards:
            commands.setdefault(shard, []).append(job.give_up(token))
    patience = max(job.plan.patience for job, _ in back)
    yield Canvass([Batch(shard, asked, True) for shard, asked in commands.items()], None, patience)
