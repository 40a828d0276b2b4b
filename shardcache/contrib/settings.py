"""What the settings of a framework say about a client: one flat mapping, taken apart."""

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from inspect import signature
from typing import Any, TypeVar

from shardcache.client_base import CacheBase
from shardcache.discovery.member_source import NodeSource
from shardcache.errors import InvalidOption
from shardcache.options import Options
from shardcache.topology.nodes import Nodes

__all__ = ("SETTINGS", "client_of", "namespace_of")

C = TypeVar("C", bound=CacheBase)

_CLIENT = tuple(name for name in signature(CacheBase).parameters if name != "nodes")
_OPTIONS = tuple(one.name for one in fields(Options))
SETTINGS = (*_CLIENT, *_OPTIONS)


def client_of(kind: type[C], url: Nodes | NodeSource | None, settings: Mapping[str, Any]) -> C:
    """Return a client as the settings of a framework want it.

    ``kind``: `ShardCache` or `AsyncShardCache`.
    ``url``: a text as for `ShardCache.from_url`, None for that of SHARDCACHE_URL, or other nodes as
        for the constructor.
    ``settings``: parameters of the client and fields of `Options`, side by side.

    Values of other programs are misses, unless ``options`` or ``read_foreign`` say otherwise: a
    framework would take their bytes for the value. Raises `InvalidOption` for an unknown name.
    """
    for name in settings:
        if name not in SETTINGS:
            near = get_close_matches(str(name).lower(), SETTINGS, 1, 0.5)
            meant = f" (did you mean {near[0]!r}?)" if near else ""
            raise InvalidOption(
                f"{name!r:.80} is no setting of a client{meant}; allowed are {', '.join(SETTINGS)}"
            )
    client = {name: value for name, value in settings.items() if name in _CLIENT}
    flat = {name: value for name, value in settings.items() if name in _OPTIONS}
    if "options" not in client:
        # Plain bytes are all that the serializer "raw" has.
        foreign = {} if client.get("serializer") == "raw" else {"read_foreign": False}
        client["options"] = Options(**(foreign | flat))
    elif flat:
        raise InvalidOption(
            f"give {', '.join(sorted(flat))} within options=Options(…), or leave options out"
        )
    if url is None or isinstance(url, str):
        return kind.from_url(url, **client)
    return kind(url, **client)


def namespace_of(prefix: object) -> str:
    """Return the namespace for a framework's key prefix; the client puts the colon behind it.

    ``prefix``: a text, with or without a colon at its end; None: no namespace.
    """
    if prefix is None:
        return ""
    if not isinstance(prefix, str):
        raise InvalidOption(
            f"the key prefix must be a text, for it is a namespace, got a {type(prefix).__name__}"
        )
    return prefix.removesuffix(":")
