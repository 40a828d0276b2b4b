"""Changing the nodes that may vote on locks: begin, and finish when the former voters hold no lock.

`membership` has the argument why this is safe.
"""

from collections.abc import Callable, Iterable, Mapping
from math import inf

from shardcache.errors import LockError, QuorumUnavailable
from shardcache.flows.lock.inspection import VoterState
from shardcache.flows.lock.lock_plan import MOST_VOTERS, LockPlan
from shardcache.flows.lock.membership import Electorate, Membership, voters_of
from shardcache.flows.steps import Flow

__all__ = ("begin", "finish", "held_by_former")


def begin(electorate: Electorate, plan: LockPlan, names: tuple[str, ...]) -> Flow[frozenset[str]]:
    """Let the nodes ``names`` vote from now on; return the nodes that have not been told yet.

    A majority of the old nodes and of the new ones must agree. Doing it again has no effect.

    ``plan``: the plan of any lock.
    """
    known = yield from _known(electorate, plan)
    if set(known.names) == set(names):
        told = yield from electorate.tell(plan, {*known.names, *known.former})
        return frozenset({*known.names, *known.former} - told)
    if known.former:
        raise LockError(
            plan.name,
            f"the voters are being changed from {_list(known.former)} to {_list(known.names)}: "
            "finish that first",
        )
    return (
        yield from _change(
            electorate, plan, Membership(known.number + 1, tuple(names), known.names), known.names
        )
    )


Keys = Mapping[bytes, Mapping[str, VoterState]]
"""For each lock, what each node has that has its key."""


def finish(
    electorate: Electorate,
    plan: LockPlan,
    list_locks: Callable[[], Flow[tuple[Keys, frozenset[str]]]],
) -> Flow[frozenset[str]]:
    """Forget the former voters if they hold no lock; return the nodes that have not been told yet.

    ``list_locks``: returns the locks that have keys, and the nodes that could not be asked. It is
        called when the former voters know of the change, so that no client can take a lock by
        them any more.
    """
    known = yield from _known(electorate, plan)
    if not known.former:
        return frozenset()
    # The former voters first refuse new locks; the list of locks comes after that.
    told = yield from electorate.tell(plan, known.former)
    wires, silent = yield from list_locks()
    silent |= frozenset(known.former) - told
    if len(silent & set(known.former)) >= min(MOST_VOTERS, len(known.former)) // 2 + 1:
        raise QuorumUnavailable(
            plan.name, f"too many of the former voters do not answer: {_list(silent)}"
        )
    # Enough former voters have answered, so a lock that they hold is in the list.
    held = held_by_former(known, wires)
    if held:
        raise LockError(
            plan.name,
            f"{len(held)} locks are still held by their former voters, such as {held[0]!r:.80}: "
            "try again when they are free",
        )
    return (
        yield from _change(
            electorate, plan, Membership(known.number + 1, known.names), known.names, known.former
        )
    )


def held_by_former(known: Membership, wires: Keys) -> list[bytes]:
    """Return the locks of which a former voter has a key that was set by an older membership.

    One key is enough: the others may be on nodes that could not be asked, or may have been set
    again on a node that the list had passed already.
    """
    found = []
    for wire, seen in wires.items():
        former, present = (voters_of(names, wire) for names in (known.former, known.names))
        if set(former) != set(present) and any(
            name in former and _number(one.token) < known.number for name, one in seen.items()
        ):
            found.append(wire)
    return found


def _number(token: bytes | None) -> float:
    """Return the number of the membership by which a lock was taken (see `LockPlan.text_in_key`).

    It is infinite for a lock whose voters were chosen by name.
    """
    _, dot, number = (token or b"").rpartition(b"|")[2].partition(b".")
    return int(number) if dot and number.isdigit() else inf


def _known(electorate: Electorate, plan: LockPlan) -> Flow[Membership]:
    """Return the membership that the nodes have; agree on the first one if they have none."""
    yield from electorate.refresh(plan)
    yield from electorate.settle(plan, {})
    return electorate.known


def _change(
    electorate: Electorate,
    plan: LockPlan,
    wanted: Membership,
    names: tuple[str, ...],
    others: Iterable[str] = (),
) -> Flow[frozenset[str]]:
    agreed = yield from electorate.propose(plan, wanted, names)
    if agreed is None:
        raise QuorumUnavailable(
            plan.name, f"no majority of {_list(names)} has agreed to change the voters"
        )
    electorate.known = agreed
    every = {*agreed.names, *agreed.former, *others}
    told = yield from electorate.tell(plan, every)
    if agreed != wanted:
        raise LockError(
            plan.name, f"somebody else has begun to change the voters to {_list(agreed.names)}"
        )
    for group in (wanted.names, wanted.former):
        if group and len(told & set(group)) <= len(group) // 2:
            raise QuorumUnavailable(
                plan.name, f"agreed, but no majority of {_list(group)} has been told: try again"
            )
    return frozenset(every - told)


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
