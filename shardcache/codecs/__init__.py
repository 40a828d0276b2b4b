"""Values as bytes and back: equal and of the same type, or refused at the write."""

from shardcache.codecs.codec import Codec
from shardcache.codecs.load_record import Loaded
from shardcache.codecs.raw import RawCodec
from shardcache.codecs.serializers import Serializer

__all__ = ("Codec", "Loaded", "RawCodec", "Serializer")
