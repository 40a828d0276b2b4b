"""Tags: a value is stored with the version of each of its tags, and is valid as long as they agree.

A tag is a key of the library's own, on the shard that the ring gives it, with 16 random bytes as
its version. To invalidate a tag is to delete this key: each value with the old version is a miss
from then on, on whichever shard it is, and no value has to be found. The next value with the tag
makes a new version. A tag lives longer than each value that has it. If a server loses it
(eviction, restart), its values are misses; a loss never makes an invalid value valid.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from shardcache.codecs import Loaded
from shardcache.codecs.load_record import VERSION_SIZE
from shardcache.errors import InvalidArgument, ShardError, WrongType
from shardcache.flows import batch
from shardcache.flows.grouping import exchange_grouped
from shardcache.flows.load.context import LoadContext
from shardcache.flows.steps import Flow
from shardcache.keys import INTERNAL

__all__ = (
    "LONGEST_TAG",
    "check",
    "ensure",
    "invalidate",
    "plain",
    "plain_many",
    "valid",
    "wires_of",
)

LONGEST_TAG = 1024  # bytes
MOST_TAGS = 255
# A tag lives at least so much longer than its value, because it is made before the value is loaded.
_SLACK_MS = 3600_000

# KEYS: the tag. ARGV: a new version, ms that a value tagged now will live ("": for ever).
# Answers the version that the tag has.
ENSURE = b"""\
local found=redis.call('GET',KEYS[1])
if not found then
found=ARGV[1]
if ARGV[2]=='' then redis.call('SET',KEYS[1],found)
else redis.call('SET',KEYS[1],found,'PX',ARGV[2]) end
return found
end
local left=redis.call('PTTL',KEYS[1])
if ARGV[2]=='' then
if left>=0 then redis.call('PERSIST',KEYS[1]) end
elseif left>=0 and left<tonumber(ARGV[2]) then redis.call('PEXPIRE',KEYS[1],ARGV[2]) end
return found"""


def check(tags: Iterable[str] | None) -> tuple[bytes, ...]:
    """Return the tags as bytes, each once; raise `InvalidArgument` for what is no tag."""
    if not tags:
        return ()
    tags = tags if isinstance(tags, (str, bytes)) else list(tags)
    if isinstance(tags, (str, bytes)) or not all(isinstance(tag, str) and tag for tag in tags):
        raise InvalidArgument(f"tags must be an iterable of non-empty str, got {tags!r:.200}")
    try:
        found = tuple(dict.fromkeys(tag.encode() for tag in tags))
    except UnicodeEncodeError:
        raise InvalidArgument(f"a tag must be encodable as UTF-8, got {tags!r:.200}") from None
    if len(found) > MOST_TAGS or max(map(len, found)) > LONGEST_TAG:
        raise InvalidArgument(
            f"at most {MOST_TAGS} tags of {LONGEST_TAG} bytes each, got {len(found)}"
        )
    if any(INTERNAL in tag for tag in found):
        raise InvalidArgument(
            f"a tag must not contain {INTERNAL.decode()!r}, which marks the library's own keys"
        )
    return found


def wires_of(tags: Sequence[bytes], context: LoadContext) -> list[bytes]:
    """Return the keys of tags."""
    space = context.planner.space
    return [space.internal(b"tag", space.wire(tag)) for tag in tags]


def ensure(
    tags: tuple[bytes, ...], context: LoadContext, ttl_ms: int | None, grace_ms: int
) -> Flow[tuple[tuple[bytes, bytes], ...] | None]:
    """Return the tags with their versions; None if the shard of one of them does not answer.

    A tag without a version gets a new one.
    """
    wires = wires_of(tags, context)
    # The tag has to outlive the value, so its ttl is made longer where it is too short.
    life = b"" if ttl_ms is None else b"%d" % (ttl_ms + grace_ms + _SLACK_MS)
    owners = context.planner.topology.owner_indexes(wires)
    outcomes = yield from exchange_grouped(
        [
            (shard, [(b"EVAL", ENSURE, b"1", wire, context.version(), life)])
            for shard, wire in zip(owners, wires, strict=True)
        ]
    )
    versions: list[Any] = [
        outcome if isinstance(outcome, ShardError) else outcome[0] for outcome in outcomes
    ]
    # One tag without a version is enough: the value could not be checked, so it is not stored.
    for shard, version in zip(owners, versions, strict=True):
        if isinstance(version, ShardError):
            failed = version
        elif len(version) != VERSION_SIZE:
            name = context.planner.topology.names[shard]
            failed = WrongType(
                name,
                f"the key of a tag holds {len(version)} bytes that are no version",
                "WRONGTYPE",
            )
        else:
            continue
        context.reply_policy.dropped(failed.shard, "tags", 1, failed)
        return None
    return tuple(zip(tags, versions, strict=True))


def valid(records: Sequence[Loaded], context: LoadContext) -> Flow[list[bool]]:
    """Return for each record whether all its tags have the versions that it was stored with.

    A tag whose shard does not answer counts as changed.
    """
    if not any(record.tags for record in records):
        return [True] * len(records)
    names = list(dict.fromkeys(tag for record in records for tag, _ in record.tags))
    wires = wires_of(names, context)
    found = yield from batch.fetch(context.planner.topology, wires)
    versions = dict(zip(names, found, strict=True))
    out = [version for version in found if isinstance(version, ShardError)]
    if out:
        context.reply_policy.degraded(out[0].shard, "tags", len(out), out[0])
    return [all(versions[tag] == version for tag, version in record.tags) for record in records]


def plain(value: Any, default: Any, context: LoadContext) -> Flow[Any]:
    """Return the value of a record that a plain read found.

    It is ``default`` if a tag has changed, or if the record is a negative result.
    """
    [found] = yield from plain_many([value], default, context)
    return found


def plain_many(values: Sequence[Any], default: Any, context: LoadContext) -> Flow[list[Any]]:
    """Return ``values`` with `plain` in the place of each record."""
    records = [value for value in values if value.__class__ is Loaded]
    kept = iter((yield from valid(records, context)))
    found = []
    for value in values:
        if value.__class__ is Loaded:
            if next(kept) and not value.negative:
                value = value.value  # noqa: PLW2901
            else:
                value = default  # noqa: PLW2901
                context.reply_policy.tally.hits -= 1
                context.reply_policy.tally.misses += 1
        found.append(value)
    return found


def invalidate(tags: tuple[bytes, ...], context: LoadContext) -> Flow[int]:
    """Make each value with one of these tags a miss; return how many of the tags existed."""
    count, failed = yield from batch.delete(context.planner.topology, wires_of(tags, context))
    return context.reply_policy.counted("invalidate_tags", count, failed)
