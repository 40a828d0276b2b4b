"""What one voter said to one attempt at a lock."""

from dataclasses import dataclass
from typing import Literal

__all__ = ("Vote", "VoteKind")

VoteKind = Literal["granted", "held", "guarded", "late", "timeout", "unreachable", "refused"]


@dataclass(frozen=True, slots=True)
class Vote:
    """One voter's answer.

    ``kind``: our key is there (`granted`); another's is (`held`, for ``left`` more seconds unless
        renewed; None if unknown); granted, but by a server that has restarted and may have
        forgotten a holder, so it does not count yet (`guarded`, for ``left`` more seconds); no
        answer when the outcome was certain (`late`) or when patience was over (`timeout`); no
        connection (`unreachable`); an error reply (`refused`). ``reason`` says more where there is
        more to say.
    """

    voter: str
    kind: VoteKind
    left: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        left = "" if self.left is None else f" for {self.left:.3g} s"
        return f"{self.voter}: {self.kind}{left}{f' ({self.reason})' if self.reason else ''}"
