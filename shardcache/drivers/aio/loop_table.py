"""The shards of a client on one event loop."""

import asyncio
from collections.abc import Callable

from shardcache.drivers.aio.shard import AsyncShard
from shardcache.drivers.shard_table import ShardTable
from shardcache.flows.context import ClientContext
from shardcache.policy.breaker import Breaker
from shardcache.topology.nodes import Member

__all__ = ("LoopTable",)


class LoopTable(ShardTable[AsyncShard]):
    """The shards that calls on one loop have asked for.

    ``loop``: that loop.
    """

    __slots__ = ("loop",)

    def __init__(
        self,
        context: ClientContext,
        make: Callable[[Member, Breaker], AsyncShard],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(context, make)
        self.loop = loop
