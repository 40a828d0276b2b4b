"""Loading one key once in the fleet.

Theory
------
A flight is one process' attempt at one key (the drivers see to it that there is one per key). It goes round until there is a value:

    what the claim says            then
    ----------------------------   -----------------------------------------------------------------------------
    the value is there             somebody was faster: give the claim back, return it
    a majority granted             we are the one loader: load, fill, which also gives the claim back
    no majority can vote           one loader per process is the best there is: load; fill where the key's own shard granted
    somebody else loads            wait for the value: woken by its fill, or when its lock must have ended; past
                                   ``policy.wait`` load unprotected, or raise

The fill is one script on the key's own shard. It stores only while the lock there still carries this load's token, and the
value is what it was when the load began. `set` and `delete` take the lock away with the value, so a load begun
before them cannot bring an older value back (leases: Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013).
"""

from shardcache.errors import LoadWaitTimeout, ShardError
from shardcache.flows.load.claim import Claim, claim, let_go
from shardcache.flows.load.desk import LoadDesk, fingerprint
from shardcache.flows.load.job import Entry, Job
from shardcache.flows.load.tags import ensure
from shardcache.flows.lock.hold import extend
from shardcache.flows.lock.lease import Lease
from shardcache.flows.steps import Batch, Canvass, Flow, Listen, Load, Outcome, Run, Sleep, exchange

__all__ = ("load", "reload", "run_loader")

_RENEWALS = 3  # in one ttl of the load lock
_LONGEST_WAIT = 0.25  # seconds after which a waiter looks for itself: nobody wakes it when the load was voided


def load(job: Job, desk: LoadDesk, *, patient: bool) -> Flow[Entry | None]:
    """Return the entry, loading it if need be. Raises what the loader raises, and `LoadWaitTimeout`.

    Not ``patient``: None if somebody else loads, as for a refresh of what is still there.
    """
    policy = job.policy
    if policy.protect != "fleet":
        return (yield from _unprotected(job, desk))
    end = desk.clock() + policy.wait
    waited = False
    while True:
        token = desk.mint("load")
        left = end - desk.clock()
        announce = min(left, _LONGEST_WAIT) if patient and left > 0 else 0.0
        found = yield from claim(job, desk, token, announce * 2)
        entry = desk.entry(job, found.raw, found.pttl)
        if entry is not None:
            yield from let_go(job, token)
            return entry
        if found.lease is not None or not found.quorum:
            return (yield from _load(job, desk, found))
        yield from let_go(job, token)
        if not patient:
            return None
        if not waited:
            waited = True
            desk.tally.waits += 1
        left = end - desk.clock()
        if left <= 0:
            if policy.on_wait_over == "raise":
                raise LoadWaitTimeout(f"somebody else has been loading {job.key!r} for more than {policy.wait:g} s")
            return (yield from _unprotected(job, desk))
        yield from _wait(job, desk, found, left)


def _wait(job: Job, desk: LoadDesk, found: Claim, left: float) -> Flow[None]:
    """Wait until the value may be there: for the fill to wake us, and not much longer than the holder's lock."""
    first, longest = job.policy.poll
    if found.left <= 0:  # contenders took voters from each other
        yield Sleep(min(left, first * desk.luck()))
        return
    patience = min(left, found.left + first * desk.luck(), _LONGEST_WAIT * (0.75 + 0.25 * desk.luck()))
    command = (b"BLPOP", job.plan.keys.wake, b"%.3f" % max(patience, 0.001))
    woken = yield Listen(job.home, command, patience)
    if isinstance(woken, ShardError):
        yield Sleep(min(left, longest * (0.5 + 0.5 * desk.luck())))


def _unprotected(job: Job, desk: LoadDesk) -> Flow[Entry]:
    """Load whatever others do; store it if the policy never asked for more, and nothing newer has come meanwhile."""
    if job.policy.protect == "fleet":  # the wait for another loader is over: what that one brings will be stored
        desk.tally.alone += 1
        return (yield from run_loader(job, desk, Claim(b"", None, False, False, 0.0, None, -2, None)))
    return (yield from _alone(job.solo, desk))


def _alone(job: Job, desk: LoadDesk) -> Flow[Entry]:
    found = yield from claim(job, desk, desk.mint("load"), 0.0)
    entry = desk.entry(job, found.raw, found.pttl)
    if entry is not None:
        yield from let_go(job, found.token)
        return entry
    return (yield from run_loader(job, desk, found))


def reload(job: Job, desk: LoadDesk) -> Flow[Entry]:
    """Load and store whether or not there is a value, and void any other load of this key under way."""
    solo = job.solo
    yield from exchange([Batch(job.home, [(b"UNLINK", job.plan.keys.lock)], True)])
    found = yield from claim(solo, desk, desk.mint("load"), 0.0)
    return (yield from run_loader(solo, desk, found))


def _load(job: Job, desk: LoadDesk, found: Claim) -> Flow[Entry]:
    if found.lease is None:
        desk.tally.alone += 1
    return (yield from run_loader(job, desk, found))


def run_loader(job: Job, desk: LoadDesk, found: Claim) -> Flow[Entry]:
    """Run the loader under a claim and fill the cache with what it returns; what it raises comes out."""
    lease, policy = found.lease, job.policy
    tally = desk.tally
    tally.loads += 1
    began = desk.clock()
    try:
        tags = (yield from ensure(job.tags, desk, job.ttl_ms, policy.grace_ms)) if job.tags else ()
        result = yield Load(
            job.wire, job.loader, policy.hard_timeout, job.plan.ttl / _RENEWALS, lambda: _renew(job, desk, lease)
        )
        value, raw, ms = desk.seal(job, result, desk.clock() - began, tags or ())
    except GeneratorExit:
        raise
    except BaseException as error:
        tally.failures += 1
        if policy.negative_on and isinstance(error, policy.negative_on):
            refusal, refusal_ms = desk.seal_refusal(job, error)
            yield from _fill(job, desk, found, refusal, refusal_ms)
        else:
            yield from let_go(job, found.token)
        raise
    stored = False
    if ms == 0 or tags is None:
        yield from let_go(job, found.token)
    else:
        stored = yield from _fill(job, desk, found, raw, ms)
    if not stored and ms != 0:
        tally.not_stored += 1
    return Entry(value, raw, stored)


def _renew(job: Job, desk: LoadDesk, lease: Lease | None) -> Flow[bool]:
    """Keep the load lock while the loader runs; return whether there is anything to keep."""
    if lease is None:
        return False
    return (yield from extend(job.plan, lease, clock=desk.clock)) != "lost"


def _fill(job: Job, desk: LoadDesk, found: Claim, raw: bytes, ms: int | None) -> Flow[bool]:
    """Store on the key's own shard, which also wakes those who wait, and give the claim back on the others, at once."""
    if not found.home:
        yield from let_go(job, found.token)
        return False
    stored: list[bool] = []

    def take(place: int, outcome: Outcome, _: Run | None) -> bool:
        if place == 0:
            stored.append(not isinstance(outcome, ShardError) and outcome[0] == 1)
            if isinstance(outcome, ShardError) or isinstance(outcome[0], ShardError):
                error = outcome if isinstance(outcome, ShardError) else outcome[0]
                desk.ledger.note("dropped_write", error.shard, "get_or_set", 1, error)
        return bool(stored)

    plan = job.plan
    others = [job.give_up(found.token)]
    batches = [Batch(shard, others, True) for shard in plan.voters.shards]
    batches[0] = Batch(job.home, [job.fill(found.token, fingerprint(found.raw), ms, raw)], False)
    yield Canvass(batches, take, max(plan.patience, 0.1))
    return bool(stored and stored[0])
