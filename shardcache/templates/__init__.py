"""Keys and tags made from a function's arguments: checked once, at decoration, and never the same for two calls."""

from shardcache.templates.default_key import DefaultKey
from shardcache.templates.key_template import KeyTemplate
from shardcache.templates.short_key import ShortKey

__all__ = ("DefaultKey", "KeyTemplate", "ShortKey")
