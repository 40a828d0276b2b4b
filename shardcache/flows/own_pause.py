"""What to do when a deadline is over: look once more, in case this process itself has paused.

A process may stand still for longer than a call may take: a suspended container, a long garbage
collection, an event loop that other code blocks. When it goes on, the deadline is over, but the
reply may be in the socket, unread. So the driver looks at the socket once more before it reports a
timeout. If it comes more than `HELD_UP` seconds after the deadline, the process had paused: then
the driver waits for `LOOK` seconds more, since the request may have gone out just before the pause
or after it. A timeout after a pause says little about the server.
"""

__all__ = ("HELD_UP", "LOOK", "held_up", "longer")

# Seconds after a deadline: more than the delay of a timer on a busy machine, less than a pause
# that matters.
HELD_UP = 0.05
LOOK = 0.02  # seconds


def held_up(now: float, deadline: float) -> bool:
    """Whether this process is so late that it must have paused."""
    return now - deadline > HELD_UP


def longer(now: float, deadline: float) -> float:
    """Return the seconds to wait for more, now that ``deadline`` is over: 0.0 for one look."""
    return LOOK if held_up(now, deadline) else 0.0
