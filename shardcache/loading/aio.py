"""Loading in the asyncio client."""

from collections.abc import Iterable
from typing import Any

from shardcache.codecs import Loaded
from shardcache.drivers.aflights import AsyncFlight
from shardcache.drivers.arun import AsyncRunner
from shardcache.drivers.flights import inside
from shardcache.errors import LoadWaitTimeout, ShardError
from shardcache.flows.core import Core
from shardcache.flows.load import Job, LoadDesk, load
from shardcache.flows.load.load import reload
from shardcache.flows.load.many import load_many, look_many
from shardcache.flows.steps import Batch, Load
from shardcache.keys import Key
from shardcache.loading.base import LoaderBase, Look
from shardcache.policy import LoadPolicy
from shardcache.results import MISS
from shardcache.ttl import TTL, Default

__all__ = ("AsyncLoader",)


class AsyncLoader(LoaderBase):
    """Looks, loads and refreshes over the asyncio driver."""

    def __init__(self, core: Core, desk: LoadDesk, runner: AsyncRunner) -> None:
        super().__init__(core, desk)
        self._runner = runner
        self._exchange = runner.exchange

    async def get_or_set(
        self, key: Key, loader: Any, ttl: TTL | Default, policy: LoadPolicy, tags: Iterable[str] | None
    ) -> Any:
        """Return the value of ``key``, loading it if need be."""
        wire = self._wire(key)
        look = await self._look(wire, policy)
        if look.value is not MISS and not look.refresh:
            return look.value
        job = self.job(key, loader, ttl, policy, tags)
        if not look.refresh:
            return await self._fly(job)
        if look.value is not MISS or policy.background:
            self.refresh_behind(job)
            if look.value is MISS:
                self.desk.tally.stale += 1
            return look.stale if look.value is MISS else look.value
        return await self._refresh_first(job, look.stale)

    async def _look(self, wire: bytes, policy: LoadPolicy) -> Look:
        shard = self._owner(wire)
        [outcome] = await self._exchange([Batch(shard, self.commands(wire), True)])
        error = next(
            (one for one in (outcome if isinstance(outcome, list) else [outcome]) if isinstance(one, ShardError)), None
        )
        if isinstance(outcome, ShardError) or error is not None:
            self.out(error)
            return Look(MISS)
        raw, pttl = outcome
        found = self.judged(raw, pttl, wire, shard, policy)
        if isinstance(found, Loaded):
            return await self._runner.run(self.verified(found, raw, pttl, wire, policy))
        return found

    async def _work(self, job: Job, *, patient: bool) -> Any:
        entry = await self._runner.run(load(job, self.desk, patient=patient))
        return MISS if entry is None else self.value_of(entry)

    async def _behind(self, job: Job) -> Any:
        try:
            return await self._work(job, patient=False)
        except Exception as error:
            self._ledger.load_failed("get_or_set", error)
            raise

    async def _fly(self, job: Job) -> Any:
        """Return the value by the flight of this loop, joining it or starting it."""
        policy = job.policy
        if policy.protect == "none":
            return await self._work(job, patient=True)
        flights, loads = self._runner.loading()
        flight = flights.get(job.wire)
        if flight is None:
            return await flights.take_off(job.wire, self._work(job, patient=True)).join(None)
        self.no_cycle(job.wire, inside.get(), job.key)
        self.desk.tally.joined += 1
        try:
            value = await flight.join(policy.wait)
        except TimeoutError:
            if policy.on_wait_over == "raise":
                raise LoadWaitTimeout(
                    f"another task has been loading {job.key!r} for more than {policy.wait:g} s"
                ) from None
            self.desk.tally.loads += 1
            return await loads(Load(job.wire, job.loader, policy.hard_timeout, job.plan.ttl, _nothing))
        # A refresh that found somebody else at it has nothing to give.
        return await self._fly(job) if value is MISS else value

    async def reload(self, job: Job) -> Any:
        """Load and store whether or not there is a value."""
        return self.value_of(await self._runner.run(reload(job, self.desk)))

    def refresh_behind(self, job: Job) -> None:
        """Refresh in a task of its own, unless somebody does."""
        flights, _ = self._runner.loading()
        if flights.get(job.wire) is None:
            self.desk.tally.refreshes += 1
            flights.take_off(job.wire, self._behind(job))

    async def _refresh_first(self, job: Job, stale: Any) -> Any:
        """Refresh before returning, if nobody else does; fall back on what is stale."""
        flights, _ = self._runner.loading()
        value = MISS
        if flights.get(job.wire) is None:
            flight = flights.take_off(job.wire, self._behind(job))
            value = await self._or_stale(job, flight)
        if value is MISS:
            self.desk.tally.stale += 1
            return stale
        return value

    async def _or_stale(self, job: Job, flight: AsyncFlight) -> Any:
        policy = job.policy
        flight.waiters += 1  # it goes on when the caller is served
        try:
            return await flight.join(policy.soft_timeout)
        except TimeoutError:
            if policy.soft_timeout is None:
                raise
            return MISS
        except Exception:
            if not policy.stale_if_error:
                raise
            return MISS

    async def get_or_set_many(
        self, keys: list[Key], loader: Any, ttl: TTL | Default, policy: LoadPolicy, tags: Iterable[str] | None
    ) -> dict[Key, Any]:
        """Return what is there, and what is not there when it is loaded."""
        wires = self._core.keys.wire_many(keys)
        jobs = {job.key: job for job in self.jobs(keys, loader, ttl, policy, tags)}
        found = await self._runner.run(look_many(keys, wires, self.desk, policy))
        if found.refresh:
            late = [jobs[key] for key in found.refresh]
            if policy.background:
                self.desk.tally.refreshes += 1
                self._runner.loading()[0].set_off(self._refresh_many(late, loader))
            else:
                found.values |= await self._refresh_many(late, loader)
        if found.missing:
            missing = [jobs[key] for key in found.missing]
            found.values |= await self._runner.run(load_many(missing, loader, self.desk, patient=True))
        return {key: found.values[key] for key in keys if key in found.values}

    async def _refresh_many(self, jobs: list[Job], loader: Any) -> dict[Key, Any]:
        try:
            return await self._runner.run(load_many(jobs, loader, self.desk, patient=False))
        except Exception as error:
            if not jobs[0].policy.background and not jobs[0].policy.stale_if_error:
                raise
            self._ledger.load_failed("get_or_set_many", error)
            return {}


def _nothing() -> Any:
    raise AssertionError("an unprotected load has no lock to renew")
