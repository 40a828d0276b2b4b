"""A resolver in place of getaddrinfo, whose answers the test chooses."""

import socket
import threading
from typing import Any

__all__ = ("FakeNames",)

FAR = 60.0  # seconds that no test waits for


class FakeNames:
    """Answers for the names that it was told of; all else is looked up as ever.

    ``asked``: the names that were asked for, in order.
    """

    def __init__(self) -> None:
        self._real = socket.getaddrinfo
        self._answers: dict[str, list[tuple[str, int]] | BaseException] = {}
        self._go = threading.Event()
        self._hanging: set[str] = set()
        self.asked: list[str] = []
        self.threads: list[threading.Thread] = []

    def say(self, host: str, *where: str | tuple[str, int] | BaseException) -> None:
        """Have ``host`` stand for these addresses, each with a port or without, or for an error."""
        [*plain] = (each if isinstance(each, tuple) else (each, 0) for each in where)
        first = where[0] if where else None
        self._answers[host] = first if isinstance(first, BaseException) else plain  # type: ignore[assignment]

    def hang(self, host: str) -> None:
        """Have no look-up of ``host`` end before `let_go`."""
        self._hanging.add(host)

    def let_go(self) -> None:
        """End all look-ups that hang; none hangs from now on."""
        self._hanging.clear()
        self._go.set()
        self._go = threading.Event()

    def __call__(self, host: str, port: Any, *rest: Any, **named: Any) -> list[Any]:
        if host not in self._answers and host not in self._hanging:
            return self._real(host, port, *rest, **named)
        self.asked.append(host)
        self.threads.append(threading.current_thread())
        if host in self._hanging:
            self._go.wait(FAR)
        found = self._answers.get(host, socket.gaierror(socket.EAI_NONAME, "no such name"))
        if isinstance(found, BaseException):
            raise found
        return [
            (
                socket.AF_INET6 if ":" in ip else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (ip, own or port or 0, *((0, 0) if ":" in ip else ())),
            )
            for ip, own in found
        ]
