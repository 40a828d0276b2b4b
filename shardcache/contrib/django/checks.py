"""``manage.py check``: what is wrong, or unwise, about a cache over shards. Nothing is sent."""

import warnings
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as Caution
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from shardcache.contrib.django.backend import ShardCacheBackend
from shardcache.topology.nodes import AddressAsNameWarning

__all__ = ("check_caches", "our_aliases")


def our_aliases() -> list[str]:
    """Return the names of the entries of CACHES that have this backend."""
    return [alias for alias, entry in settings.CACHES.items() if _is_ours(entry.get("BACKEND"))]


def _is_ours(backend: Any) -> bool:
    try:
        kind = import_string(backend)
    except (ImportError, AttributeError):
        return False  # Django itself says so
    return isinstance(kind, type) and issubclass(kind, ShardCacheBackend)


def check_caches(app_configs: Any = None, **_: Any) -> list[CheckMessage]:
    """Return what there is to say of each entry of CACHES that has this backend.

    ``app_configs``: of Django, without effect: CACHES are of the whole site.
    """
    del app_configs
    return [message for alias in our_aliases() for message in _check(alias)]


def _check(alias: str) -> Iterator[CheckMessage]:
    entry = f"CACHES[{alias!r}]"
    try:
        yield from _names(caches.create_connection(alias), entry)
    except ImproperlyConfigured as error:
        yield Error(str(error), obj=entry, id="shardcache.E001")
        return
    yield from _signatures(settings.CACHES[alias].get("OPTIONS") or {}, entry)
    try:
        caches[alias].around_keys()
    except ImproperlyConfigured as error:
        yield Caution(str(error), obj=entry, id="shardcache.W003")


def _names(backend: ShardCacheBackend, entry: str) -> Iterator[CheckMessage]:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", AddressAsNameWarning)
        # Not the shared client, which does not warn again once it is made.
        backend.new_client().close()
    if any(issubclass(one.category, AddressAsNameWarning) for one in warned):
        yield Caution(
            "Some servers have no name, so keys are placed by their host names: if one changes, "
            "its keys are lost.",
            hint='Give names: "redis://h1:6379?name=a".',
            obj=entry,
            id="shardcache.W001",
        )


def _signatures(options: dict[str, Any], entry: str) -> Iterator[CheckMessage]:
    if options.get("signing_key", "") is None and options.get("serializer", "pickle") == "pickle":
        yield Caution(
            "Pickles are not signed: whoever can write to a server can run code in this site.",
            hint='Leave "signing_key" out, or set "serializer" to "safe".',
            obj=entry,
            id="shardcache.W002",
        )
