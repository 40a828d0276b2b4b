"""Who holds a lock, as the operator sees it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from shardcache.errors import ShardError
from shardcache.flows.lock import LockPlan, LockState
from shardcache.system.holder_token import read

__all__ = ("Holder",)


@dataclass(frozen=True, slots=True)
class Holder:
    """One moment of a lock that is held.

    ``label``: who, in the holder's own words (host:pid:thread unless told otherwise). ``since``: the holder's wall clock when it began
    to acquire, seconds since the epoch, or None if it did not say. ``remaining``: seconds until a majority has let go unless it is
    renewed. ``voters``: for each voter that has this holder's key, the seconds left there. ``out``: voters that did not answer, and why.
    ``fence``: the highest counter among the voters, so the fencing token is not above it. ``token``: what stands in the key.
    """

    label: str
    since: float | None
    remaining: float
    voters: Mapping[str, float]
    out: Mapping[str, ShardError]
    fence: int
    token: str

    @classmethod
    def of(cls, plan: LockPlan, state: LockState) -> Self | None:
        """Return the holder of a majority, or None."""
        token = state.holder
        if token is None:
            return None
        label, since = read(token)
        names = plan.voters.names
        pairs = list(zip(names, state.seen, strict=True))
        return cls(
            label=label,
            since=since,
            remaining=state.remaining,
            voters={
                name: one.left
                for name, one in pairs
                if not isinstance(one, ShardError) and one.token == token
            },
            out={name: one for name, one in pairs if isinstance(one, ShardError)},
            fence=max(one.fence for one in state.seen if not isinstance(one, ShardError)),
            token=token.decode("utf-8", "backslashreplace"),
        )
