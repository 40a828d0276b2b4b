"""What a client consists of, apart from its colour (sync or asyncio) and its connections."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self

from shardcache.codecs import Codec, RawCodec
from shardcache.errors import InvalidArgument, InvalidOption, ShardError
from shardcache.flows import batch
from shardcache.flows import scan as sweep
from shardcache.flows.operations import Requests
from shardcache.flows.reply_policy import ReplyPolicy
from shardcache.flows.steps import Flow
from shardcache.keys import Key, KeySpace, hash_tag, is_own
from shardcache.options import OnUnavailable, Options, check_on_unavailable, check_timeout
from shardcache.placement import HashRing, KetamaRing, Placement
from shardcache.placement.node import Node
from shardcache.results import Explanation
from shardcache.topology.nodes import Member
from shardcache.ttl import TTL, Default

__all__ = ("ClientContext",)


class ClientContext:
    """One client's parameters, checked, and what is made from them; the same in both colours."""

    __slots__ = (
        "codec",
        "keys",
        "members",
        "options",
        "placement",
        "reply_policy",
        "requests",
        "timeout",
    )

    def __init__(
        self,
        members: Sequence[Member],
        *,
        namespace: str,
        default_ttl: TTL,
        serializer: Any,
        compression: Any,
        timeout: float,
        on_unavailable: OnUnavailable,
        options: Options | None,
    ) -> None:
        if options is not None and not isinstance(options, Options):
            raise InvalidOption(
                f"options must be a shardcache.options.Options, got {type(options).__name__}"
            )
        # Each part checks its own parameters, so a wrong one is an error here, before any exchange.
        self.options = options or Options()
        self.timeout = check_timeout(timeout)
        self.keys = KeySpace(namespace)
        make = (
            RawCodec
            if isinstance(serializer, str) and serializer == "raw"
            else partial(Codec, serializer)
        )
        self.codec: Codec = make(
            compression=compression,
            compress_min=self.options.compress_min,
            signing_key=self.options.signing_key,
            max_value=self.options.max_value,
            types=self.options.types,
        )
        self.requests = Requests(
            self.keys, self.codec, default_ttl, void_loads=self.options.void_loads
        )
        # From here on a shard is an index into the nodes, in the order of the placement.
        self.placement = _placement(self.options.placement, [member.node for member in members])
        by_name = {member.node.name: member for member in members}
        self.members = tuple(by_name[node.name] for node in self.placement.nodes)
        self.reply_policy = ReplyPolicy(
            self.codec,
            [node.name for node in self.placement.nodes],
            self.placement.owner_index,
            check_on_unavailable(on_unavailable),
            self.options.on_event,
        )

    @classmethod
    def of_lock(cls, members: Sequence[Member], options: Options | None, namespace: str) -> Self:
        """Return the context of a lock without a client: it stores no values."""
        return cls(
            members,
            namespace=namespace,
            default_ttl=None,
            serializer="safe",
            compression=None,
            timeout=0.5,
            on_unavailable="raise",
            options=options,
        )

    def encoded(
        self, mapping: Mapping[Key, Any], ttl: TTL | Default
    ) -> tuple[list[Key], list[bytes], list[bytes], int | None]:
        """Return keys, wire keys, stored forms and milliseconds, all checked before sending."""
        if not isinstance(mapping, Mapping):
            raise InvalidArgument(
                f"set_many takes a mapping of keys to values, got {type(mapping).__name__}"
            )
        asked = list(mapping)
        wires = self.keys.wire_many(asked)
        encode = self.codec.encode
        raws = [encode(value, wire) for value, wire in zip(mapping.values(), wires, strict=True)]
        return asked, wires, raws, self.requests.ttl_ms(ttl)

    def store(
        self, wires: list[bytes], raws: list[bytes], ms: int | None
    ) -> Flow[dict[int, ShardError]]:
        """Return the flow that stores values; see `batch.store`."""
        return batch.store(self.placement, wires, raws, ms, invalidate=self.fill_tokens)

    def delete(self, wires: list[bytes]) -> Flow[tuple[int, list[tuple[int, ShardError]]]]:
        """Return the flow that deletes keys; see `batch.delete`."""
        return batch.delete(self.placement, wires, invalidate=self.fill_tokens)

    def glob(self, match: str | bytes) -> bytes:
        """Return a server-side pattern for ``match`` within the namespace."""
        if not isinstance(match, (str, bytes)):
            raise InvalidArgument(
                f"match must be a glob as str or bytes, got {type(match).__name__}"
            )
        raw = match.encode("utf-8", "surrogateescape") if isinstance(match, str) else match
        return sweep.pattern(self.keys.prefix, raw)

    def sweep(self, *, flush: bool) -> Flow[tuple[int, list[ShardError]]]:
        """Return the flow that empties this namespace, or with ``flush`` the whole databases.

        Running loads of the namespace are invalidated first.
        """
        shards = len(self.members)
        if flush:
            return sweep.flush(shards)
        fill_tokens = sweep.load_passes(self.keys.prefix) if self.options.void_loads else None
        return sweep.wipe(shards, self.glob("*"), fill_tokens)

    def scanned(self, shard: int, wires: list[bytes], error: ShardError | None) -> list[Key]:
        """Return the user's forms of the keys that ``shard`` owns; note or raise ``error``."""
        if error is not None:
            self.reply_policy.degraded(error.shard, "scan", 0, error)
        wires = [wire for wire in wires if not is_own(wire)]
        owners = self.placement.owner_indexes(wires)
        return [
            self.keys.user(wire)
            for wire, owner in zip(wires, owners, strict=True)
            if owner == shard
        ]

    @property
    def fill_tokens(self) -> batch.Pass:
        """What gives the key of the fill token that a write deletes; None if writes do not."""
        return self.keys.fill_token if self.options.void_loads else None

    def explain(self, key: Key, states: Sequence[str]) -> Explanation:
        """Say which shard has ``key``; ``states``: of the breakers, in the order of the members."""
        wire = self.keys.wire(key)
        at = self.placement.owner_index(wire)
        node = self.members[at].node
        return Explanation(
            key=key,
            wire_key=wire,
            hashed=hash_tag(wire),
            shard=node.name,
            address=node.url or "",
            successors=self.placement.owners(wire, 3),
            state=states[at],
        )


def _placement(choice: Any, nodes: list[Node]) -> Placement:
    if choice == "ring":
        return HashRing(nodes)
    if choice == "ketama":
        return KetamaRing(nodes, hash_tag="{}")  # the client promises tags, whatever the placement
    placement: Placement = choice(nodes)
    placed = [node.name for node in placement.nodes]
    if sorted(placed) != sorted(node.name for node in nodes):
        raise InvalidOption(
            f"the placement must hold exactly the client's nodes, it holds {placed!r:.200}"
        )
    return placement
