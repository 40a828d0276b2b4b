"""The lock with a part of its argument taken out: each must be caught, or the judge sees nothing.

name              what is taken out
--------------    -----------------------------------------------------------------------------------------
no-write-back     the token is made known to no majority: `CONFIRM` is taken to have worked everywhere
no-owner-check    the voters' scripts confirm, extend and delete whatever key is there, whosever it is
no-drift          a lease lasts as long as the voters' clocks say, to the millisecond
no-guard          a voter that came back empty votes at once
no-second-look    what voters granted before the register knew this life of theirs counts, though they may have ended it since
no-swap           a lease that is handed over is looked at by whoever adopts it, and not taken by a token of his own
adopt-unmet       whoever adopts a lease counts voters that came back with older data, or were never met
extend-unmet      an extension counts voters that were not met when the lock was granted, whoever remembers them
no-birth          a voter whose data were flushed counts as the same as before
no-floor          a voter that came back with old counters goes on counting from there
one-answer        one answer of the register is enough to vet a voter, not a majority
some-answers      a voter that none of a majority remembers is fresh, though others have not been heard
own-list          each client takes the voters from its own list of nodes, and says no version
no-former         while voters are changed, those of before are not asked
no-unsure         of the longest ttl, those that answer know enough, though others have not been heard
median            a lease is taken to last for the median of the times of those that have it
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
    """What is put in the place of names of modules and classes, and of scripts."""

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


def _at_once(_roll: VoterStatus, _shard: int, _life: Any, *, vetted: bool = False) -> float:  # noqa: ARG001
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


def _one_answer(_: Voters, answers: Collection[int]) -> bool:
    return len(answers) >= 1


def _some_answers(answers: int, _: int) -> bool:
    return answers > 0


def _never_unsure(registry: VoterRegistry, unsure: float = 0.0) -> None:
    _INIT(registry, 0.0 * unsure)


_REGISTERED = SCRIPTS[real.REGISTER]
_INIT = VoterRegistry.__init__


def _own_list(electorate: Electorate, plan: LockPlan) -> LockPlan:
    names = voters_of(electorate._shards, _WIRE)
    return plan.on(Voters(tuple(electorate._shards[name] for name in names), names))


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
    """Run without one part of the lock; with all of it for None. The process must do nothing else with locks meanwhile."""
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
