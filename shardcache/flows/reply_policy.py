"""What each reply or failure means to the caller, and a record of each failure (G6)."""

from collections import Counter
from typing import Any, TypeVar

from shardcache.codecs import Codec
from shardcache.errors import (
    CommandRefused,
    DamagedPayload,
    KeyMissing,
    OutOfMemory,
    ShardCacheError,
    ShardError,
    ShardUnavailable,
    WritesRefused,
    WrongType,
)
from shardcache.events import Event, Hook, emit
from shardcache.flows.one_command import called
from shardcache.flows.operations import GET, Request
from shardcache.keys import Key
from shardcache.options import OnUnavailable
from shardcache.per_key import count_absent
from shardcache.resp import ErrorReply, Reply
from shardcache.results import MISS, Failed, Hit, Miss, Outcome, Results
from shardcache.stats import Tally
from shardcache.topology.current import CurrentTopology

__all__ = ("ReplyPolicy", "about")

E = TypeVar("E", bound=ShardCacheError)


class ReplyPolicy:
    """Turns outcomes into results by the client's policy, and counts.

    Under "degrade" a shard that is out makes a read a miss and a write a False; a stored value
    that does not decode is a miss. Under "raise" both raise. Any other error reply always raises.
    """

    __slots__ = ("_codec", "_current", "_decode", "_degrade", "_hook", "tally")

    def __init__(
        self,
        codec: Codec,
        current: CurrentTopology,
        on_unavailable: OnUnavailable,
        hook: Hook | None,
    ) -> None:
        self._codec = codec
        self._decode = codec.decode
        self._current = current
        self._degrade = on_unavailable == "degrade"
        self._hook = hook
        self.tally = Tally()

    def settle(self, request: Request, reply: Reply, shard: int) -> Any:
        """Return the result of a request that was answered."""
        if request.op is not GET:
            try:
                return request.op.read(reply)
            except KeyMissing as error:
                raise about(error, request.op.name, request.key, self._name(shard)) from None
        return self.value(reply, request.key, request.default, shard)

    def value(self, raw: bytes | None, wire: bytes, default: Any, shard: int) -> Any:
        """Return the value that a get found, or ``default``."""
        if raw is None:
            self.tally.misses += 1
            return default
        try:
            value = self._decode(raw, wire)
        except DamagedPayload as error:
            self.damaged(shard, "get", about(error, "get", wire))
            return default
        self.tally.hits += 1
        return value

    def fail(self, request: Request, error: ShardError) -> Any:
        """Return the result of a request that failed, or raise ``error``."""
        op = request.op
        error = about(error, called(op, request.command), request.key)
        if op is GET and isinstance(error, WrongType):
            # Another program's list or hash under our key is as unreadable as a damaged value.
            self.damaged(self._current.now.names.index(error.shard), "get", error)
            return request.default
        if op.writes:
            self.dropped(error.shard, op.name, 1, error)
        else:
            self.degraded(error.shard, op.name, 1, error)
        return request.default if op is GET else op.degraded

    def hits(self, keys: list[Key], wires: list[bytes], raws: list[Reply]) -> dict[Key, Any]:
        """Return the hits among ``raws``, which holds bytes, None, or a ShardError for each key."""
        absent = count_absent(raws)
        if absent < 0:
            return self.outcomes("get_many", keys, wires, raws).hits
        values, damaged = self._codec.decode_many(raws, wires, MISS)
        if damaged:
            return self.outcomes("get_many", keys, wires, raws).hits
        if not absent:  # usually all are hits
            self.tally.hits += len(keys)
            return dict(zip(keys, values, strict=True))
        found = {key: value for key, value in zip(keys, values, strict=True) if value is not MISS}
        tally = self.tally
        tally.hits += len(found)
        tally.misses += len(keys) - len(found)
        return found

    def outcomes(
        self, name: str, keys: list[Key], wires: list[bytes], raws: list[Reply]
    ) -> Results[Any]:
        """Return an outcome for each key.

        For `get_many` it raises what the policy says, for `fetch_many` nothing.
        """
        result: dict[Key, Outcome[Any]] = {}
        out: dict[str, list[ShardError]] = {}
        tally = self.tally
        # Each key gets its own outcome; the errors are collected by shard.
        for key, wire, raw in zip(keys, wires, raws, strict=True):
            if raw is None:
                tally.misses += 1
                result[key] = Miss()
            elif isinstance(raw, WrongType):
                self._note_damaged(raw.shard, name, raw)
                result[key] = Failed(about(raw, name, wire))
            elif isinstance(raw, ShardError):
                out.setdefault(raw.shard, []).append(raw)
                result[key] = Failed(about(raw, name, wire))
            else:
                try:
                    result[key] = Hit(self._codec.decode(raw, wire))
                    tally.hits += 1
                except DamagedPayload as error:
                    told = about(error, name, wire)
                    self._note_damaged(self._name(self._current.now.owner_index(wire)), name, told)
                    result[key] = Failed(told)
        # The policy comes before the events: what raises is no degraded read.
        raising = self._to_raise(result) if name == "get_many" else None
        if raising is not None:
            tally.errors += 1
            raise raising
        for shard, errors in out.items():
            self.note("degraded_read", shard, name, len(errors), errors[0])
        return Results(result)

    def _to_raise(self, result: dict[Key, Outcome[Any]]) -> ShardCacheError | None:
        """Return the first error that the policy does not hide."""
        for outcome in result.values():
            if isinstance(outcome, Failed) and not (self._degrade and _may_degrade(outcome.error)):
                return outcome.error
        return None

    def stored(self, keys: list[Key], failed: dict[int, ShardError]) -> list[Key]:
        """Return the keys that were not stored."""
        by_shard: dict[str, list[ShardError]] = {}
        for at, error in failed.items():
            known = by_shard.setdefault(error.shard, [])
            known.append(error if known else about(error, "set_many", keys[at]))
        for shard, errors in by_shard.items():
            self.dropped(shard, "set_many", len(errors), errors[0])
        return [keys[at] for at in sorted(failed)]

    def counted(self, name: str, count: int, failed: list[tuple[int, ShardError]]) -> int:
        """Note how many keys were not reached, once for each shard; return ``count``."""
        errors: dict[str, ShardError] = {}
        missed: Counter[str] = Counter()
        for keys, error in failed:
            errors.setdefault(error.shard, error)
            missed[error.shard] += keys
        for shard, error in errors.items():
            self.dropped(shard, name, missed[shard], error)
        return count

    def swept(self, count: int, failed: list[ShardError]) -> int:
        """Note the shards that were left out; return ``count``.

        How many keys those shards have is not known.
        """
        for error in failed:
            self.dropped(error.shard, "clear", 0, error)
        return count

    def degraded(self, shard: str, name: str, keys: int, error: ShardError) -> None:
        """Note reads answered as misses; raise instead if the policy or the error says so."""
        self._raise_unless_degradable(error)
        self.note("degraded_read", shard, name, keys, error)

    def dropped(self, shard: str, name: str, keys: int, error: ShardError) -> None:
        """Note writes not done; raise instead if the policy or the error says so."""
        self._raise_unless_degradable(error)
        self.note("dropped_write", shard, name, keys, error)

    def _raise_unless_degradable(self, error: ShardError) -> None:
        if not (self._degrade and _may_degrade(error)):
            self.tally.errors += 1
            raise error

    def damaged(self, shard: int, name: str, error: ShardCacheError) -> None:
        """Note a stored value that does not decode; raise instead where the policy says so."""
        self._note_damaged(self._name(shard), name, error)
        if not self._degrade:
            self.tally.errors += 1
            raise error

    def _name(self, shard: int) -> str:
        return self._current.now.names[shard]

    def _note_damaged(self, shard: str, name: str, error: ShardCacheError) -> None:
        self.tally.damaged += 1
        emit(self._hook, Event("damaged", shard, name, 1, error))

    def load_failed(self, name: str, error: BaseException) -> None:
        """Note a failed load of which the caller gets no error.

        It ran in the background, or a stale value was served instead.
        """
        emit(self._hook, Event("load_failed", "", name, 1, error))

    def note(self, kind: Any, shard: str, name: str, keys: int, error: ShardError) -> None:
        if kind == "dropped_write":
            self.tally.dropped_writes += keys
        else:
            self.tally.degraded_reads += keys
        emit(self._hook, Event(kind, shard, name, keys, error))


def about(error: E, name: str, key: Key, shard: str = "") -> E:
    """Return ``error`` with the method and the key in its text, if it is about a single key.

    ``shard``: the shard, for an error that does not know it.
    """
    of_key = isinstance(error, CommandRefused) or (
        type(error) in (ShardUnavailable, WritesRefused) and isinstance(error.__cause__, ErrorReply)
    )
    if not of_key and not isinstance(error, (DamagedPayload, KeyMissing)):
        return error
    text = key if isinstance(key, str) else key.decode("utf-8", "backslashreplace")
    where = f"{name} of {text!r:.200}"
    told: Any
    if isinstance(error, CommandRefused):
        told = type(error)(error.shard, f"{where}: {error.reason}", error.code)
    elif isinstance(error, ShardUnavailable):
        told = type(error)(error.shard, f"{where}: {error.reason}")
    elif isinstance(error, KeyMissing):
        told = KeyMissing(f"shard {shard!r}: {where}: {error}")
    else:
        told = DamagedPayload(f"{where}: {error}")
    told.__cause__ = error.__cause__
    return told  # type: ignore[no-any-return]  # of the same class


def _may_degrade(error: ShardCacheError) -> bool:
    """Whether an error is temporary: only such an error is hidden by "degrade"."""
    return isinstance(error, (ShardUnavailable, OutOfMemory, DamagedPayload))
