"""Compressors, each with a decompression that yields no more than it was allowed to.

zstd comes from Python's own ``compression.zstd`` (3.14), else from the package ``zstandard`` (extra
``zstd``).
"""

import zlib
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, Protocol

from shardcache.errors import DamagedPayload, InvalidOption

__all__ = (
    "Compressor",
    "Zlib",
    "ZstandardPackage",
    "ZstdModule",
    "compressor",
    "find_zstd",
    "zstd_or_damaged",
)

ZSTD_LEVEL = 3
MAX_WINDOW_LOG = 23  # 8 MiB of history: what RFC 8878 (3.1.1.1.2) asks every reader to support


class Compressor(Protocol):
    """Compresses, and decompresses into at most ``limit`` bytes; takes one whole stream only."""

    def compress(self, data: bytes, /) -> bytes: ...

    def decompress(self, data: bytes, limit: int, /) -> bytes: ...


class Zlib:
    """RFC 1950, from the standard library."""

    __slots__ = ()

    def compress(self, data: bytes) -> bytes:
        return zlib.compress(data)

    def decompress(self, data: bytes, limit: int) -> bytes:
        stream = zlib.decompressobj()
        # One byte more than allowed, or the end of a stream of exactly that length would stay
        # unread.
        return _whole(stream.decompress(data, limit + 1), stream, limit)


class ZstdModule:
    """RFC 8878, by a module with the interface of ``compression.zstd``."""

    __slots__ = ("_module", "_options")

    def __init__(self, module: Any) -> None:
        self._module = module
        self._options = {module.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}

    def compress(self, data: bytes) -> bytes:
        packed: bytes = self._module.compress(data, ZSTD_LEVEL)
        return packed

    def decompress(self, data: bytes, limit: int) -> bytes:
        _check_size(self._module.get_frame_info(data).decompressed_size, limit)
        stream = self._module.ZstdDecompressor(options=self._options)
        return _whole(stream.decompress(data, limit + 1), stream, limit)


class ZstandardPackage:
    """RFC 8878, by the package ``zstandard``."""

    __slots__ = ("_module",)

    def __init__(self, module: Any) -> None:
        self._module = module

    def compress(self, data: bytes) -> bytes:
        packed: bytes = self._module.ZstdCompressor(level=ZSTD_LEVEL).compress(data)
        return packed

    def decompress(self, data: bytes, limit: int) -> bytes:
        size = self._module.frame_content_size(data)
        _check_size(None if size < 0 else size, limit)
        # It sets aside what the frame claims, so the claim was checked first.
        reader = self._module.ZstdDecompressor(max_window_size=1 << MAX_WINDOW_LOG)
        unpacked: bytes = reader.decompress(data, read_across_frames=False, allow_extra_data=False)
        return unpacked


@cache
def find_zstd() -> Compressor | None:
    """Return a zstd compressor, or None where neither Python nor an installed package has one."""
    candidates: tuple[tuple[str, Callable[[Any], Compressor]], ...] = (
        ("compression.zstd", ZstdModule),
        ("zstandard", ZstandardPackage),
    )
    for name, factory in candidates:
        try:
            return factory(import_module(name))
        except ImportError:
            continue
    return None


def compressor(name: str) -> Compressor:
    """Return the compressor that ``compression=`` names; raise `InvalidOption` if there is none."""
    if name == "zlib":
        return Zlib()
    if name != "zstd":
        raise InvalidOption(f"compression must be None, 'zlib' or 'zstd', got {name!r}")
    found = find_zstd()
    if found is None:
        raise InvalidOption(
            "compression 'zstd' needs Python 3.14 or the package zstandard: shardcache[zstd]"
        )
    return found


def zstd_or_damaged() -> Compressor:
    """Return a zstd compressor for reading; raise `DamagedPayload` where there is none."""
    found = find_zstd()
    if found is None:
        raise DamagedPayload(
            "the value is compressed with zstd, which is not installed here: shardcache[zstd]"
        )
    return found


def _check_size(claimed: int | None, limit: int) -> None:
    if claimed is None:
        raise DamagedPayload("the zstd frame does not say how long its content is")
    if claimed > limit:
        raise DamagedPayload(f"decompressed it claims {claimed} bytes; allowed are {limit}")


def _whole(unpacked: bytes, stream: Any, limit: int) -> bytes:
    if len(unpacked) > limit:
        raise DamagedPayload(f"decompressed it is longer than the allowed {limit} bytes")
    if not stream.eof:
        raise DamagedPayload("the compressed stream is cut off")
    if stream.unused_data:
        raise DamagedPayload("bytes follow the compressed stream")
    return unpacked
