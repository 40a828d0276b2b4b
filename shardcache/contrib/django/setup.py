"""What LOCATION and OPTIONS of a cache say, as clients of this process.

What django-redis and Django's own backend call otherwise is in `translation`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from shardcache.contrib.django.pickles import DjangoPickles, site_keys
from shardcache.contrib.django.translation import translated
from shardcache.contrib.process_clients import Clients, shared_clients
from shardcache.contrib.settings import client_of
from shardcache.errors import InvalidArgument

__all__ = ("clients_of",)

_NAMED_SERIALIZERS = ("safe", "json", "pickle", "raw")
# What this setting of django-redis says for the whole site.
_IGNORE = "DJANGO_REDIS_IGNORE_EXCEPTIONS"


def clients_of(location: Any, options: Mapping[str, Any]) -> Clients:
    """Return the clients of this process for one entry of CACHES.

    ``location``: its LOCATION.
    ``options``: its OPTIONS.

    What is wrong with them is an `ImproperlyConfigured` when a client is first needed, so that
    ``manage.py check`` can tell of it; nothing is sent then.
    """
    # All that the clients are made of, so that other settings get other clients.
    made_of = (
        location,
        options,
        settings.SECRET_KEY,
        tuple(settings.SECRET_KEY_FALLBACKS),
        getattr(settings, _IGNORE, None),
    )
    return shared_clients(made_of, lambda kind: _new_client(kind, location, options))


def _new_client(kind: type[Any], location: Any, options: Mapping[str, Any]) -> Any:
    given = translated(options)
    serializer = given["serializer"] = _serializer(given.get("serializer", "pickle"))
    if getattr(settings, _IGNORE, None) is False:
        given.setdefault("on_unavailable", "raise")
    # A pickle can run code, so only the site itself may have made it. Text and bytes cannot.
    if isinstance(serializer, DjangoPickles) and not given.keys() & {"options", "signing_key"}:
        given["signing_key"] = site_keys()
        given.setdefault("sign_plain", False)
    try:
        return client_of(kind, _nodes(location), given)
    except InvalidArgument as error:
        raise ImproperlyConfigured(f"CACHES: {error}") from error


def _nodes(location: Any) -> Any:
    """Return what a client takes as its nodes; None: the URL of the environment.

    Several URLs in one text may be joined by ";", as for Django's own backends.
    """
    if not location:
        return None
    if isinstance(location, str):
        return ",".join(part for part in map(str.strip, location.split(";")) if part)
    if isinstance(location, Mapping) or callable(location) or not isinstance(location, Iterable):
        return location
    nodes = list(location)
    # One text, since a text may also say something of the whole client.
    return ",".join(nodes) if all(isinstance(node, str) for node in nodes) else nodes


def _serializer(chosen: Any) -> Any:
    """Return the client's serializer for a name, a dotted path, a class or an object."""
    if isinstance(chosen, str) and chosen not in _NAMED_SERIALIZERS:
        try:
            chosen = import_string(chosen)
        except ImportError as error:
            raise ImproperlyConfigured(
                f"OPTIONS: serializer must be one of {', '.join(_NAMED_SERIALIZERS)}, or the "
                f"dotted path of a class with dumps and loads: {error}"
            ) from error
    if isinstance(chosen, type):
        chosen = chosen()
    return DjangoPickles() if chosen == "pickle" else chosen
