"""A server with a real handshake that then answers what the test says, a thread each."""

import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Self

import hiredis

GREETING = (
    b"%7\r\n+server\r\n+redis\r\n+version\r\n+7.0.0\r\n+proto\r\n:3\r\n+id\r\n:1\r\n"
    b"+mode\r\n+standalone\r\n+role\r\n+master\r\n+modules\r\n*0\r\n"
)
ABOUT = b"# Server\r\nrun_id:0123456789\r\nuptime_in_seconds:1000\r\n"
Answer = Callable[[tuple[bytes, ...]], Iterable[bytes]]


class HostileServer:
    """Answers each command with the pieces that ``answer`` yields; a context manager.

    A piece that is empty ends the connection. ``greets``: it answers the handshake as a server
    does.
    """

    def __init__(self, answer: Answer, *, greets: bool = True) -> None:
        self.answer = answer
        self.greets = greets
        self.asked: list[tuple[bytes, ...]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._begin(self._accept)
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._open):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _begin(self, work: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while not self._closing.is_set():
                sock, _ = self._listener.accept()
                self._open.add(sock)
                self._begin(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        reader = hiredis.Reader()
        with sock, suppress(OSError):
            while not self._closing.is_set() and (data := sock.recv(65536)):
                reader.feed(data)
                while (command := reader.gets()) is not False:
                    for piece in self._pieces(tuple(command)):
                        if not piece or self._closing.is_set():
                            return
                        sock.sendall(piece)
        self._open.discard(sock)

    def _pieces(self, command: tuple[bytes, ...]) -> Iterable[bytes]:
        if self.greets and command[0] == b"HELLO":
            return [GREETING]
        if self.greets and command[0] == b"INFO":
            return [b"$%d\r\n%b\r\n" % (len(ABOUT), ABOUT)]
        self.asked.append(command)
        return self.answer(command)
