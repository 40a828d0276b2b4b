"""Compressors: whole streams only, and never more than was allowed."""

import tracemalloc
import zlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.codecs import Codec, compress
from shardcache.codecs import codec as envelope
from shardcache.codecs.compress import Zlib, ZstandardPackage, ZstdModule
from shardcache.errors import DamagedPayload, InvalidOption

KEY = b"k"
BIG = {"text": "abc" * 1000, "numbers": list(range(100))}
PLAIN = Codec()

try:
    from backports import zstd as _standard
except ImportError:
    try:
        from compression import zstd as _standard
    except ImportError:
        _standard = None
try:
    import zstandard as _package
except ImportError:
    _package = None
COMPRESSORS = [
    pytest.param(Zlib(), id="zlib"),
    pytest.param(
        _package and ZstandardPackage(_package),
        id="zstandard",
        marks=pytest.mark.skipif(_package is None, reason="the package zstandard is not installed"),
    ),
    pytest.param(
        _standard and ZstdModule(_standard),
        id="compression.zstd",
        marks=pytest.mark.skipif(_standard is None, reason="this Python has no compression.zstd"),
    ),
]
each_compressor = pytest.mark.parametrize("compressor", COMPRESSORS)


@each_compressor
@given(data=st.binary(min_size=1))
def test_compressed_bytes_come_back(compressor, data):
    """Up to the limit exactly, and not one byte beyond."""
    packed = compressor.compress(data)
    assert compressor.decompress(packed, len(data)) == data
    with pytest.raises(DamagedPayload):
        compressor.decompress(packed, len(data) - 1)


@each_compressor
def test_bomb_is_damaged_and_allocates_no_more_than_allowed(compressor):
    """A hundred megabytes from a few bytes are not unpacked to see how long they are."""
    bomb = compressor.compress(bytes(100_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(DamagedPayload):
            compressor.decompress(bomb, 1_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000


@each_compressor
def test_cut_or_lengthened_stream_is_damaged(compressor, monkeypatch):
    """Half a value is no value, and bytes behind the end are no part of it."""
    monkeypatch.setattr(envelope, "zstd_or_damaged", lambda: compressor)
    header = b"\xfb" if isinstance(compressor, Zlib) else b"\xfc"
    packed = compressor.compress(b"\xf6" + b"abc" * 100)
    assert PLAIN.decode(header + packed, KEY) == "abc" * 100
    for broken in (
        packed[:-1],
        packed[: len(packed) // 2],
        packed + b"x",
        packed + packed,
        b"",
        b"x",
    ):
        with pytest.raises(DamagedPayload):
            PLAIN.decode(header + broken, KEY)


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_compression_is_used_where_it_helps(compression):
    """Long and compressible is compressed; short, or as long as before, is not."""
    if compression == "zstd" and compress.find_zstd() is None:
        pytest.skip("no zstd here")
    codec = Codec(compression=compression, compress_min=100)
    noise = Random(1).randbytes(500)
    raws = [codec.encode(value, KEY) for value in (BIG, "x" * 99, "x" * 100, noise)]
    assert [raw[0] for raw in raws] == [
        {"zlib": 0xFB, "zstd": 0xFC}[compression],
        0xF6,
        {"zlib": 0xFB, "zstd": 0xFC}[compression],
        0xF5,
    ]
    assert [PLAIN.decode(raw, KEY) for raw in raws] == [BIG, "x" * 99, "x" * 100, noise]


def test_zlib_bomb_in_an_envelope_is_damaged():
    """The bound of the decompression is max_value."""
    bomb = b"\xfb" + zlib.compress(b"\xf5" + bytes(100_000))
    assert Codec(max_value=100_001).decode(bomb, KEY) == bytes(100_000)
    with pytest.raises(DamagedPayload, match="longer than the allowed 100000"):
        Codec(max_value=100_000).decode(bomb, KEY)


def test_zstd_frame_without_a_length_is_damaged():
    """A frame that hides its length could be anything."""
    zstandard = pytest.importorskip("zstandard")
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(b"\xf6abc")
    with pytest.raises(DamagedPayload, match="does not say how long"):
        PLAIN.decode(b"\xfc" + frame, KEY)


def test_missing_zstd_is_a_clear_error(monkeypatch):
    """Who asks for it is told what to install; who meets such a value sees it as damaged."""

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(compress, "import_module", missing)
    compress.find_zstd.cache_clear()
    try:
        with pytest.raises(InvalidOption, match=r"shardcache\[zstd\]"):
            Codec(compression="zstd")
        with pytest.raises(DamagedPayload, match=r"shardcache\[zstd\]"):
            PLAIN.decode(b"\xfc\x28\xb5\x2f\xfd", KEY)
    finally:
        compress.find_zstd.cache_clear()
