"""What is done for every key of a call: the loops that a compiler is worth for.

There is one source, `loops`. A build that has a C compiler also makes a compiled twin of it
(``hatch_build.py``, by Cython in its pure-Python mode), which takes its place if it is there. The
environment variable ``SHARDCACHE_PURE`` (any text but ``0``) leaves it out, in a build and in a
process. ``shardcache --version`` says which one runs.

No decision of a client is made here, and nothing is sent: lists go in, and lists come out.
"""

from shardcache.per_key.loops import (
    COMPILED,
    command_of,
    count_absent,
    decode_plain,
    encode_keys,
    encode_plain,
    fill_tokens,
    hash_tag,
    pack_command,
    pack_gets,
    pack_sets,
    pack_ttls,
    positions_of,
    put,
    ring_owners,
)

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
