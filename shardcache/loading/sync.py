"""Loading in the sync client."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

from shardcache.codecs import Loaded
from shardcache.drivers.flights import Flight, inside
from shardcache.drivers.run import Runner
from shardcache.errors import LoadWaitTimeout, ShardError
from shardcache.flows.core import Core
from shardcache.flows.load import Job, LoadDesk, load
from shardcache.flows.load.load import reload
from shardcache.flows.load.many import load_many, look_many
from shardcache.flows.steps import Batch
from shardcache.keys import Key
from shardcache.loading.base import LoaderBase, Look
from shardcache.policy import LoadPolicy
from shardcache.results import MISS
from shardcache.ttl import TTL, Default

__all__ = ("Loader",)


class Loader(LoaderBase):
    """Looks, loads and refreshes over the sync driver."""

    def __init__(self, core: Core, desk: LoadDesk, runner: Runner) -> None:
        super().__init__(core, desk)
        self._runner = runner
        self._exchange = runner.exchange

    def get_or_set(
        self, key: Key, loader: Any, ttl: TTL | Default, policy: LoadPolicy, tags: Iterable[str] | None
    ) -> Any:
        """Return the value of ``key``, loading it if need be."""
        wire = self._wire(key)
        look = self._look(wire, policy)
        if look.value is not MISS and not look.refresh:
            return look.value
        job = self.job(key, loader, ttl, policy, tags)
        if not look.refresh:
            return self._fly(job)
        if look.value is not MISS or policy.background:
            self.refresh_behind(job)
            if look.value is MISS:
                self.desk.tally.stale += 1
            return look.stale if look.value is MISS else look.value
        return self._refresh_first(job, look.stale)

    def _look(self, wire: bytes, policy: LoadPolicy) -> Look:
        shard = self._owner(wire)
        [outcome] = self._exchange([Batch(shard, self.commands(wire), True)])
        error = next(
            (one for one in (outcome if isinstance(outcome, list) else [outcome]) if isinstance(one, ShardError)), None
        )
        if isinstance(outcome, ShardError) or error is not None:
            self.out(error)
            return Look(MISS)
        raw, pttl = outcome
        found = self.judged(raw, pttl, wire, shard, policy)
        if isinstance(found, Loaded):
            return self._runner.run(self.verified(found, raw, pttl, wire, policy))
        return found

    def _fly(self, job: Job) -> Any:
        """Return the value by the flight of this process, joining it or flying it."""
        policy = job.policy
        if policy.protect == "none":
            return self._pilot(job, Flight(), patient=True)
        flights = self._runner.flights
        while True:
            flight, mine = flights.board(job.wire)
            if mine:
                return self._pilot(job, flight, patient=True)
            self.no_cycle(job.wire, inside.get(), job.key)
            self.desk.tally.joined += 1
            if not flight.wait(policy.wait):
                if policy.on_wait_over == "raise":
                    raise LoadWaitTimeout(
                        f"another thread has been loading {job.key!r} for more than {policy.wait:g} s"
                    )
                self.desk.tally.loads += 1
                return job.loader()
            if not flight.retry and (value := flight.result()) is not MISS:
                return value

    def _pilot(self, job: Job, flight: Flight, *, patient: bool) -> Any:
        """Fly: load, and let those who joined have what came of it."""
        result, error = None, None
        try:
            entry = self._runner.run(load(job, self.desk, patient=patient))
            result = MISS if entry is None else self.value_of(entry)
            return result
        except BaseException as caught:
            error = caught
            raise
        finally:
            self._runner.flights.end(job.wire, flight)
            flight.land(result, error)

    def reload(self, job: Job) -> Any:
        """Load and store whether or not there is a value."""
        return self.value_of(self._runner.run(reload(job, self.desk)))

    def refresh_behind(self, job: Job) -> None:
        """Refresh in a thread of its own, unless somebody does."""
        flight, mine = self._runner.flights.board(job.wire)
        if not mine:
            return
        self.desk.tally.refreshes += 1

        def body() -> None:
            try:
                self._pilot(job, flight, patient=False)
            except Exception as error:  # noqa: BLE001  nobody waits for it; the next reader tries again
                self._ledger.load_failed("get_or_set", error)

        threading.Thread(target=body, name="shardcache refresh", daemon=True).start()

    def _refresh_first(self, job: Job, stale: Any) -> Any:
        """Refresh before returning, if nobody else does; fall back on what is stale."""
        policy = job.policy
        flight, mine = self._runner.flights.board(job.wire)
        if not mine:
            self.desk.tally.stale += 1
            return stale
        if policy.soft_timeout is None:
            return self._or_stale(job, lambda: self._pilot(job, flight, patient=False), stale)

        def body() -> None:
            try:
                self._pilot(job, flight, patient=False)
            except Exception as error:  # noqa: BLE001  whoever still waits sees it
                self._ledger.load_failed("get_or_set", error)

        threading.Thread(target=body, name="shardcache refresh", daemon=True).start()
        if not flight.wait(policy.soft_timeout):
            self.desk.tally.stale += 1
            return stale
        return self._or_stale(job, flight.result, stale)

    def _or_stale(self, job: Job, load: Callable[[], Any], stale: Any) -> Any:
        try:
            value = load()
        except Exception as error:
            if not job.policy.stale_if_error:
                raise
            self._ledger.load_failed("get_or_set", error)
            value = MISS
        if value is MISS:
            self.desk.tally.stale += 1
            return stale
        return value

    def get_or_set_many(
        self, keys: list[Key], loader: Any, ttl: TTL | Default, policy: LoadPolicy, tags: Iterable[str] | None
    ) -> dict[Key, Any]:
        """Return what is there, and what is not there when it is loaded."""
        wires = self._core.keys.wire_many(keys)
        jobs = {job.key: job for job in self.jobs(keys, loader, ttl, policy, tags)}
        found = self._runner.run(look_many(keys, wires, self.desk, policy))
        if found.refresh:
            late = [jobs[key] for key in found.refresh]
            if policy.background:
                self.desk.tally.refreshes += 1
                threading.Thread(
                    target=self._refresh_many, args=(late, loader), name="shardcache refresh", daemon=True
                ).start()
            else:
                found.values |= self._refresh_many(late, loader)
        if found.missing:
            missing = [jobs[key] for key in found.missing]
            found.values |= self._runner.run(load_many(missing, loader, self.desk, patient=True))
        return {key: found.values[key] for key in keys if key in found.values}

    def _refresh_many(self, jobs: list[Job], loader: Any) -> dict[Key, Any]:
        try:
            return self._runner.run(load_many(jobs, loader, self.desk, patient=False))
        except Exception as error:
            if not jobs[0].policy.background and not jobs[0].policy.stale_if_error:
                raise
            self._ledger.load_failed("get_or_set_many", error)
            return {}
