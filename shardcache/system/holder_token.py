"""The token that a holder writes into the key of a lock: unique, and readable for an operator.

``random|since|label|attempt``, where

- ``random`` is 24 hex digits;
- ``since`` is the holder's wall clock in seconds, for people only: nothing is decided by it;
- ``label`` is the name that the holder gives itself;
- ``attempt`` is the number of the attempt, and behind a dot that of the membership by which the
  voters were chosen.
"""

import os
import secrets
import socket
import threading
import time

from shardcache.errors import InvalidOption

__all__ = ("check_label", "new_token", "read")

LONGEST_LABEL = 200


def new_token(label: str | None = None) -> bytes:
    """Return a new token, without the part ``attempt``.

    ``label``: default: host, process and thread.
    """
    if label is None:
        label = f"{socket.gethostname()}:{os.getpid()}:{threading.current_thread().name}"
        label = label.replace("|", "/")[:LONGEST_LABEL]
    return f"{secrets.token_hex(12)}|{time.time():.3f}|{label}".encode()


def check_label(label: str | None) -> str | None:
    """Return ``label`` or raise `InvalidOption`."""
    if label is not None and not (
        isinstance(label, str)
        and label.isprintable()
        and "|" not in label
        and 0 < len(label.encode()) <= LONGEST_LABEL
    ):
        raise InvalidOption(
            f"label must be printable text of up to {LONGEST_LABEL} bytes without '|', "
            f"got {label!r:.80}"
        )
    return label


def read(token: bytes) -> tuple[str, float | None]:
    """Return label and wall-clock time of a token.

    A token that is not of this form is returned as text, without a time.
    """
    text = token.decode("utf-8", "backslashreplace")
    parts = text.split("|")
    try:
        _, since, label, _ = parts
        return label, float(since)
    except ValueError:
        return text, None
