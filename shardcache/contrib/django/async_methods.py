"""The ``a…`` methods of the backend: the same, on the asyncio client and without a thread."""

from collections.abc import Iterable, Mapping
from inspect import isawaitable
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT

from shardcache.contrib.django.basis import NO_LOAD, Basis, loaded_alone, not_a_number
from shardcache.errors import WrongType
from shardcache.policy import LoadPolicy
from shardcache.policy.load_policy import Preset
from shardcache.results import MISS

__all__ = ("AsyncMethods",)


class AsyncMethods(Basis):
    """Each method does what the one without the "a" does."""

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        return await self.async_client.get(self._made(key, version), default)

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        made = self._made_many(keys, version)
        found = await self.async_client.get_many(made)
        return {made[key]: value for key, value in found.items()}

    async def aset(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        nx: bool = False,
        xx: bool = False,
    ) -> bool:
        if nx and xx:
            raise ValueError("aset: nx and xx exclude each other, got both")
        client = self.async_client
        store = client.add if nx else client.replace if xx else client.set
        return await store(self._made(key, version), value, self.get_backend_timeout(timeout))

    async def aadd(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        made, ttl = self._made(key, version), self.get_backend_timeout(timeout)
        return await self.async_client.add(made, value, ttl)

    async def aset_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> list[Any]:
        made = self._made_many(data, version)
        values = {wire: data[key] for wire, key in made.items()}
        failed = await self.async_client.set_many(values, self.get_backend_timeout(timeout))
        return [made[key] for key in failed]

    async def atouch(
        self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        made, ttl = self._made(key, version), self.get_backend_timeout(timeout)
        return await self.async_client.touch(made, ttl)

    async def adelete(self, key: Any, version: int | None = None) -> bool:
        return await self.async_client.delete(self._made(key, version))

    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        await self.async_client.delete_many(self._made_many(keys, version))

    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        return await self.async_client.contains(self._made(key, version))

    async def aincr(
        self,
        key: Any,
        delta: int = 1,
        version: int | None = None,
        *,
        ignore_key_check: bool = False,
    ) -> int | None:
        made, initial = self._made(key, version), 0 if ignore_key_check else None
        try:
            return await self.async_client.incr(made, delta, initial=initial, ttl=None)
        except WrongType as error:
            raise not_a_number(error) from error

    async def aget_or_set(
        self,
        key: Any,
        default: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        policy: LoadPolicy | Preset | None = None,
    ) -> Any:
        """Do as ``get_or_set``; the default may be a coroutine function too."""
        made, ttl = self._made(key, version), self.get_backend_timeout(timeout)
        try:
            return await self.async_client.get_or_set(made, default, ttl, policy=policy)
        except NO_LOAD:
            value = loaded_alone(default)
            return await value if isawaitable(value) else value

    async def aincr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        version = self.version if version is None else version
        made, new = self._made(key, version), self._made(key, version + delta)
        value = await self.async_client.get(made, MISS)
        left = await self.async_client.ttl(made)
        self._check_movable(key, value)
        await self.async_client.set(new, value, left)
        await self.async_client.delete(made)
        return version + delta

    async def aclear(self) -> None:
        await self.async_client.clear(match=self.around_keys().glob("*"))

    async def aclose(self, **_: Any) -> None:
        """Do nothing, as ``close``."""
