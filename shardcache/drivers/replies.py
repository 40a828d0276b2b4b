"""What a shard's replies say about the shard, whatever the colour."""

from shardcache.drivers.shard_health import ShardState, is_down
from shardcache.policy.breaker import State
from shardcache.resp import ErrorReply, Reply

__all__ = ("BLOCKING_REPLY_TYPES", "check_replies", "check_reply")

BLOCKING_REPLY_TYPES: frozenset[type] = frozenset({list, type(None), ErrorReply})
"""What a command that blocks can be answered with."""


def check_replies(shard: ShardState, replies: list[Reply]) -> list[Reply]:
    """Put a `ShardError` in the place of each error reply, and note how the shard is doing."""
    if ErrorReply in set(map(type, replies)):
        replies = [
            shard.named(reply) if reply.__class__ is ErrorReply else reply for reply in replies
        ]
        down = [reply for reply in replies if is_down(reply)]
        if down:
            shard.record_failure(down[0], dialled=False)
            return replies
    if shard.breaker.failures or shard.breaker.state is not State.CLOSED:
        shard.record_success()
    return replies


def check_reply(shard: ShardState, reply: Reply) -> Reply:
    """Return what a blocking command was answered, a `ShardError` for an error reply; note how the shard is doing."""
    return check_replies(shard, [reply])[0]
