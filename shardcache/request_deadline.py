"""`deadline`: one time limit for all cache calls of a block, such as those of one web request."""

from collections.abc import Callable
from contextvars import ContextVar, Token
from time import monotonic
from types import TracebackType
from typing import Self

from shardcache.errors import InvalidArgument

__all__ = (
    "TIME_IS_OVER",
    "caller_end",
    "caller_end_by",
    "deadline",
    "forget_deadline",
    "time_left",
)

_ENDS: ContextVar[float | None] = ContextVar("shardcache_deadline", default=None)

caller_end = _ENDS.get
"""Returns when the time of the block is over, by `time.monotonic`; None outside of any block."""

TIME_IS_OVER = "was not asked, because the time of shardcache.deadline is over"
_LONGEST = 86_400.0  # seconds


class deadline:  # noqa: N801  used as ``with shardcache.deadline(0.2):``
    """A context manager that bounds all cache calls inside of it together.

    ``seconds``: how long they may take, counted from the beginning of the block, 0 to 86 400.

    A call that is under way when the time is over gives up its wait; those after it send nothing.
    Both answer as for a shard that is out: reads miss, writes say False, or `ShardUnavailable` is
    raised, as the client's ``on_unavailable`` says. What was given up may still be carried out by
    its server, and says nothing against the shard.

    A lock is waited for until then: `acquire` says False if others hold it, and raises
    `QuorumUnavailable` if too few voters have answered. `get_or_set` waits until then for the load
    of another caller, and for its turn to load (then `TooManyLoaders`). A loader itself runs to its
    end, and its value is returned; it is stored only if that takes no wait. Not bounded are release
    and extension of a lock, and what goes on in the background.

    It is a context variable: for threads, tasks and coroutines, as far as they have a copy of the
    context (asyncio's tasks have). Of nested blocks the one that ends first counts. Raises
    `InvalidArgument`.
    """

    __slots__ = ("_seconds", "_tokens")

    def __init__(self, seconds: float) -> None:
        if (
            isinstance(seconds, bool)
            or not isinstance(seconds, (int, float))
            or not 0 <= seconds <= _LONGEST
        ):
            raise InvalidArgument(
                f"a deadline must be seconds from 0 to {_LONGEST:.0f}, got {seconds!r:.80}"
            )
        self._seconds = seconds
        self._tokens: list[Token[float | None]] = []

    def __enter__(self) -> Self:
        outer, end = caller_end(), monotonic() + self._seconds
        self._tokens.append(_ENDS.set(end if outer is None else min(outer, end)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _ENDS.reset(self._tokens.pop())


def time_left() -> float | None:
    """Return the seconds that are left of the block, below 0 after it; None outside of any."""
    end = caller_end()
    return None if end is None else end - monotonic()


def caller_end_by(clock: Callable[[], float]) -> float | None:
    """Return when the time of the block is over by another clock; None outside of any."""
    left = time_left()
    return None if left is None else clock() + left


def forget_deadline() -> None:
    """Let what runs in this context have no deadline: nobody waits for it."""
    _ENDS.set(None)
