"""The worker processes of the demo, seen from the parent."""

import multiprocessing
import signal
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from shardcache.cli.demo.async_worker import AsyncWorker
from shardcache.cli.demo.worker import Order, Report, Site, Worker
from shardcache.errors import ServerNotStarted

__all__ = ("Crew", "serve")

START_LIMIT = 30.0  # seconds until every worker has said that it is ready


def serve(number: int, site: Site, pipe: "Connection[Any, Any]") -> None:
    """Carry out orders until the parent is gone: the main function of a worker process.

    ``number``: the number of the worker; odd ones use the asyncio client.
    ``site``: what to serve, and from which shards.
    ``pipe``: the worker's end of the pipe to the parent.

    The worker ignores Ctrl-C: the parent handles it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kind = AsyncWorker if number % 2 else Worker
    try:
        kind(number, site, pipe).run()
    except (EOFError, OSError):
        return


class Crew:
    """The worker processes; every other one has an asyncio client.

    ``size``: how many processes.
    ``site``: what they serve, and from which shards.

    They end with `close`, or when this process ends.
    """

    def __init__(self, size: int, site: Site) -> None:
        self._pipes: list[Connection[Any, Any]] = []
        self._workers: list[multiprocessing.process.BaseProcess] = []
        self._site = site
        self._busy: set[int] = set()
        self.size = size

    def start(self) -> None:
        """Start the processes; `ready` waits for them. `close` is due even if this fails."""
        # The processes are spawned, not forked, because this process may have threads. Ctrl-C goes
        # to every process of the terminal, and a process that is importing would print a traceback.
        # So SIGINT is blocked while they start. The resource tracker is started before that,
        # because its start unblocks the signal.
        context = multiprocessing.get_context("spawn")
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            for number in range(self.size):
                ours, theirs = context.Pipe()
                self._pipes.append(ours)
                worker = context.Process(
                    target=serve, args=(number, self._site, theirs), daemon=True
                )
                worker.start()
                theirs.close()
                self._workers.append(worker)
                self._busy.add(number)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def ready(self) -> None:
        """Wait until every worker is ready; raise `ServerNotStarted` after `START_LIMIT`."""
        for _ in self.reports(START_LIMIT):
            pass
        if self._busy:
            raise ServerNotStarted(
                f"{len(self._busy)} of {self.size} worker processes did not start"
            )

    def order(self, orders: list[Order]) -> None:
        """Give each worker its order."""
        for number, (pipe, order) in enumerate(zip(self._pipes, orders, strict=True)):
            pipe.send(order)
            self._busy.add(number)

    def reports(self, seconds: float) -> Iterator[Report]:
        """Yield reports as they come in, until every worker is done or the time is up."""
        end = time.monotonic() + seconds
        while self._busy and (left := end - time.monotonic()) > 0:
            ready = wait([self._pipes[number] for number in self._busy], left)
            for pipe in (pipe for pipe in self._pipes if pipe in ready):
                try:
                    report: Report = pipe.recv()
                except EOFError:
                    raise ServerNotStarted("a worker process ended before its work") from None
                if report.done:
                    self._busy.discard(report.worker)
                yield report

    def stop(self) -> Iterator[Report]:
        """Break the orders off; yield what the workers still have to say."""
        for number in self._busy:
            self._pipes[number].send(None)
        yield from self.reports(START_LIMIT)

    def close(self) -> None:
        """End the processes at once: they hold nothing that needs care."""
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.join()
            worker.close()
        for pipe in self._pipes:
            pipe.close()
        self._workers.clear()
        self._pipes.clear()
