"""What to do when the time is over: look once more, and do not blame a server for one's own pause.

A process may stand still for longer than a call may take: a suspended container, a long collection of garbage, an event loop
that something else blocks. When it goes on, the deadline is past, but the reply may lie in the socket, unread. So whoever
finds the time over looks at the socket once more before judging. Who finds himself late by more than `HELD_UP`
seconds was held up: he waits for `LOOK` seconds more, for the request may have gone out just before the pause or after it; and
a timeout then says little about the server.
"""

__all__ = ("HELD_UP", "LOOK", "held_up", "longer")

HELD_UP = 0.05  # seconds past a deadline: more than a busy machine makes of a timer, less than a pause that matters
LOOK = 0.02  # seconds


def held_up(now: float, deadline: float) -> bool:
    """Whether this process is so late that it must have stood still."""
    return now - deadline > HELD_UP


def longer(now: float, deadline: float) -> float:
    """Return the seconds to wait for more, now that ``deadline`` is over: 0.0 for one look."""
    return LOOK if held_up(now, deadline) else 0.0
