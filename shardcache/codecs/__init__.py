"""Values as bytes and back: equal and of the same type, or refused at the write."""

from shardcache.codecs.envelope import Codec
from shardcache.codecs.loaded import Loaded
from shardcache.codecs.raw import RawCodec
from shardcache.codecs.serializers import Serializer

__all__ = ("Codec", "Loaded", "RawCodec", "Serializer")
