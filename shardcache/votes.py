"""What one voter said to one attempt at a lock."""

from dataclasses import dataclass
from typing import Literal

__all__ = ("Vote", "VoteKind")

VoteKind = Literal["granted", "held", "guarded", "late", "timeout", "unreachable", "refused"]


@dataclass(frozen=True, slots=True)
class Vote:
    """One voter's answer.

    ``voter``: the name of the shard.
    ``kind``: ``granted``: the lock's key is there; ``held``: another holder's is; ``guarded``:
        granted, but by a server that has restarted and may have forgotten a holder, so it does not
        count yet; ``late``: no answer when the outcome was certain; ``timeout``: no answer in time;
        ``unreachable``: no connection; ``refused``: an error reply.
    ``left``: seconds, for ``held`` unless the lock is renewed, and for ``guarded``; None if
        unknown.
    ``reason``: more words, or "".
    """

    voter: str
    kind: VoteKind
    left: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        left = "" if self.left is None else f" for {self.left:.3g} s"
        return f"{self.voter}: {self.kind}{left}{f' ({self.reason})' if self.reason else ''}"
