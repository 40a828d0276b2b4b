"""A fencing token: a whole number that grows with every acquisition of a lock."""

from shardcache.errors import InvalidToken

__all__ = ("MAX_TOKEN", "check_token")

MAX_TOKEN = 2**63 - 1  # the largest number of SQL's type BIGINT


def check_token(token: int) -> int:
    """Return a fencing token unchanged.

    ``token``: an int, not a bool, from 1 to 2⁶³ - 1.

    Raises `InvalidToken` for anything else.
    """
    if isinstance(token, bool) or not isinstance(token, int):
        raise InvalidToken(f"a fencing token must be an int, got {token!r:.80}")
    if not 1 <= token <= MAX_TOKEN:
        raise InvalidToken(f"a fencing token is from 1 to 2**63 - 1, got {token!r:.80}")
    return int(token)
