"""The lock with one part taken out. The simulation must find the harm, or it proves nothing.

name            what the lock does then
--------------  ----------------------------------------------------------------------------------
no-write-back   it makes the token known to no majority: `CONFIRM` seems to work on every voter
no-owner-check  the voters' scripts confirm, extend and delete any key, also another holder's
no-drift        a lease lasts as long as the voters' clocks say, to the millisecond
no-guard        a voter that came back empty votes at once
no-second-look  a grant counts although the register did not yet know the voter's life, so that
                the voter may have restarted since
no-swap         a client that adopts a lease only reads it, and does not put its own token there
adopt-unmet     a client that adopts a lease counts voters that came back with older data, and
                voters that no register knows
extend-unmet    an extension counts voters that were not verified when the lock was granted, whether
                a register knows them or not
by-uptime       a replica that took the place of a voter counts as old as its process and its data
no-birth        a voter whose data were flushed counts as the same as before
no-floor        a voter that came back with old counters goes on counting from there
one-answer      one answer of the register is enough to verify a voter, not a majority
some-answers    a voter that nobody of a majority remembers is fresh, though others were not asked
own-list        each client takes the voters from its own list of nodes, and sends no version
no-former       while voters are changed, the former voters are not asked
no-unsure       the longest ttl that a majority knows is enough, though others have not answered
median          a lease lasts for the median of the remaining times of its voters
"""

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from statistics import median
from typing import Any, NamedTuple

from shardcache.flows.lock import Lease, LockPlan, Voters
from shardcache.flows.lock import scripts as real
from shardcache.flows.lock.ballot import Ballot
from shardcache.flows.lock.membership import Electorate, voters_of
from shardcache.flows.lock.voter_registry import Life, VoterRegistry, VoterStatus
from shardcache.flows.steps import Flow, ServerRun
from shardcache.testing.simulation.database import Database
from shardcache.testing.simulation.scripts import SCRIPTS, Script, life_of, raise_to

__all__ = ("ABLATIONS", "ablated")

_ACQUIRE, _ADOPTION, _HOLD, _LEASE, _LOOK, _REGISTER = (
    import_module(f"shardcache.flows.lock.{name}")
    for name in (
        "acquisition",
        "adoption",
        "renew_release",
        "lease",
        "inspection",
        "voter_registry",
    )
)
_CONFIRM: Callable[[LockPlan, Lease, Ballot, list[int]], Flow[list[int]]] = _ACQUIRE._confirm


class _Ablation(NamedTuple):
    """What replaces a part of the lock.

    ``names``: module or class, name in it, and the value to put there.
    ``scripts``: script, and the Python function to run in its place.
    """

    names: Sequence[tuple[Any, str, Callable[..., Any]]] = ()
    scripts: Sequence[tuple[bytes, Script]] = ()


def _confirmed_by_all(
    _plan: LockPlan, _lease: Lease, ballot: Ballot, _known: list[int]
) -> Flow[list[int]]:
    yield from ()
    return list(ballot.fences)


def _counted_before(
    plan: LockPlan, lease: Lease, ballot: Ballot, _known: list[int]
) -> Flow[list[int]]:
    known = [place for place, counter in ballot.fences.items() if counter == lease.fence]
    if len(known) >= plan.quorum:
        return known
    return (yield from _CONFIRM(plan, lease, ballot, known))


def _nothing(_ttl: float) -> float:
    return 0.0


def _at_once(
    _status: VoterStatus,
    _shard: int,
    _life: Any,
    *,
    vetted: bool = False,  # noqa: ARG001
) -> float:
    return 0.0


def _median(times: list[float], _quorum: int) -> float:
    return median([time for time in times if time] or [0.0])


def _confirm(db: Database, keys: Sequence[Any], argv: Sequence[Any]) -> int:
    raise_to(db, keys[1], argv[1], argv[2])
    return 1


def _extend(db: Database, keys: Sequence[Any], argv: Sequence[Any]) -> list[int]:
    db.expire(keys[0], argv[1])
    return [1, *life_of(db, keys)] if db.exists(keys[0]) else [0]


def _release(db: Database, keys: Sequence[Any], _: Sequence[Any]) -> int:
    return db.delete(keys[0])


def _adopt(db: Database, keys: Sequence[Any], argv: Sequence[Any]) -> Any:
    held, left = db.get(keys[0]), db.left(keys[0])
    return [1, left, *life_of(db, keys)] if left > 0 and held in argv[:2] else [0]


def _by_run_alone(run: ServerRun | None, _born: int = 0, _age_ms: int = 0) -> Life | None:
    return None if run is None else Life(run.id, run.age, run.id)


def _register(db: Database, keys: Sequence[Any], argv: Sequence[Any]) -> Any:
    before = db.fields(keys[0]).get(b"floor", b"0")
    longest, born, _, *rest = _REGISTERED(db, keys, argv)
    db.fields(keys[0])[b"floor"] = before
    return [longest, born, int(before), *rest]


def _by_uptime(_: VoterStatus, __: int, life: Life) -> float:
    return life.age


def _one_answer(_: Voters, answers: Collection[int]) -> bool:
    return len(answers) >= 1


def _some_answers(answers: int, _: int) -> bool:
    return answers > 0


def _never_unsure(registry: VoterRegistry, unsure: float, *, promotes: bool = False) -> None:
    _INIT(registry, 0.0 * unsure, promotes=promotes)


_REGISTERED = SCRIPTS[real.REGISTER]
_INIT = VoterRegistry.__init__


def _own_list(electorate: Electorate, plan: LockPlan) -> LockPlan:
    names = voters_of(tuple(electorate._shards()), _WIRE)
    return plan.on(Voters(tuple(electorate._shards()[name] for name in names), names))


def _no_former(electorate: Electorate, plan: LockPlan) -> LockPlan:
    planned = _PLAN(electorate, plan)
    return replace(planned, electors=planned.voters)


_WIRE = b"n:lock"  # as the simulated lock is called
_PLAN = Electorate.plan
ABLATIONS = {
    "no-write-back": _Ablation([(_ACQUIRE, "_confirm", _confirmed_by_all)]),
    "no-owner-check": _Ablation(
        scripts=[(real.CONFIRM, _confirm), (real.EXTEND, _extend), (real.RELEASE, _release)]
    ),
    "no-drift": _Ablation(
        [(module, "drift", _nothing) for module in (_LEASE, _ADOPTION, _REGISTER)]
    ),
    "no-guard": _Ablation([(VoterStatus, "wait", _at_once)]),
    "no-second-look": _Ablation([(_ACQUIRE, "_confirm", _counted_before)]),
    "no-swap": _Ablation(scripts=[(real.ADOPT, _adopt)]),
    "adopt-unmet": _Ablation([(_ADOPTION, "wait_of", _at_once)]),
    "extend-unmet": _Ablation([(_HOLD, "wait_of", _at_once)]),
    "by-uptime": _Ablation([(VoterStatus, "age", _by_uptime)]),
    "no-birth": _Ablation([(Life, "of", staticmethod(_by_run_alone))]),
    "no-floor": _Ablation(scripts=[(real.REGISTER, _register)]),
    "one-answer": _Ablation([(_REGISTER, "_majority", _one_answer)]),
    "some-answers": _Ablation([(_REGISTER, "_everybody", _some_answers)]),
    "no-unsure": _Ablation([(VoterRegistry, "__init__", _never_unsure)]),
    "own-list": _Ablation([(Electorate, "plan", _own_list)]),
    "no-former": _Ablation([(Electorate, "plan", _no_former)]),
    "median": _Ablation([(module, "quorum_th", _median) for module in (_LEASE, _LOOK)]),
}


@contextmanager
def ablated(name: str | None) -> Generator[None]:
    """Take a part out of the lock for the time of the block.

    ``name``: a key of `ABLATIONS`; None takes nothing out.

    The process must not use locks for anything else meanwhile.
    """
    ablation = ABLATIONS[name] if name is not None else _Ablation()
    names = [
        (owner, attribute, getattr(owner, attribute)) for owner, attribute, _ in ablation.names
    ]
    scripts = [(script, SCRIPTS[script]) for script, _ in ablation.scripts]
    try:
        for owner, attribute, value in ablation.names:
            setattr(owner, attribute, value)
        SCRIPTS.update(ablation.scripts)
        yield
    finally:
        for owner, attribute, value in names:
            setattr(owner, attribute, value)
        SCRIPTS.update(scripts)
