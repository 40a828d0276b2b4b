"""Work that goes on in a thread beside a test."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ("beside",)


@contextmanager
def beside(work: Callable[[threading.Event], object]) -> Iterator[None]:
    """Run ``work`` in a thread for the length of a ``with``.

    ``work``: gets the event that is set when it is to end.
    """
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
