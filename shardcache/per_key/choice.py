"""Chooses the compiled twin of `loops` if it is there and ``SHARDCACHE_PURE`` is not set."""

import os
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

__all__ = (
    "COMPILED",
    "command_of",
    "count_absent",
    "decode_plain",
    "encode_keys",
    "encode_plain",
    "fill_tokens",
    "hash_tag",
    "pack_command",
    "pack_gets",
    "pack_sets",
    "pack_ttls",
    "positions_of",
    "put",
    "ring_owners",
)

COMPILED = False
"""Whether the compiled twin runs in this process."""

if TYPE_CHECKING:
    from shardcache.per_key import loops as _loops
else:
    if os.environ.get("SHARDCACHE_PURE", "0") in {"", "0"}:
        # A wheel that was built without a compiler has none, nor has one of another Python.
        with suppress(ImportError):
            _loops = import_module("shardcache.per_key._compiled")
            COMPILED = True
    if not COMPILED:
        _loops = import_module("shardcache.per_key.loops")

command_of = _loops.command_of
count_absent = _loops.count_absent
decode_plain = _loops.decode_plain
encode_keys = _loops.encode_keys
encode_plain = _loops.encode_plain
fill_tokens = _loops.fill_tokens
hash_tag = _loops.hash_tag
pack_command = _loops.pack_command
pack_gets = _loops.pack_gets
pack_sets = _loops.pack_sets
pack_ttls = _loops.pack_ttls
positions_of = _loops.positions_of
put = _loops.put
ring_owners = _loops.ring_owners
