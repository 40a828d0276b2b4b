"""Keys and tags from a function's arguments: different for different calls."""

from shardcache.key_templates.default_key import DefaultKey
from shardcache.key_templates.key_template import KeyTemplate
from shardcache.key_templates.short_key import ShortKey

__all__ = ("DefaultKey", "KeyTemplate", "ShortKey")
