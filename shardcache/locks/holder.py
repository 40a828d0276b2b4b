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

    ``label``: the holder in its own words; by default host, process and thread.
    ``since``: when it began to acquire, by its own wall clock, in seconds since the epoch; None if
        it did not say.
    ``remaining``: seconds until a majority of the voters lets the key go, unless it is renewed.
    ``voters``: for each voter that has this holder's key, the seconds left there.
    ``out``: for each voter that did not answer, the error.
    ``fence``: the highest counter among the voters; the fencing token is not above it.
    ``token``: the holder token, as it stands in the key.
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
        """Return the holder that a majority of the voters has, or None.

        ``plan``: the plan of the lock.
        ``state``: what each voter has.
        """
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
