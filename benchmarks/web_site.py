"""The Django site that `web_pages.py` loads: one module, two pages.

The environment says which back end (``CACHE``: ours, django, django-redis) and which servers
(``SERVERS``: their URLs, with commas).
"""

import os

import django
from django.conf import settings
from django.core.cache import cache
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

KEYS = [f"fragment:{n}" for n in range(100)]
SERVERS = os.environ["SERVERS"].split(",")
CACHES = {
    "ours": {
        "BACKEND": "shardcache.contrib.django.ShardCacheBackend",
        "LOCATION": SERVERS,
        "OPTIONS": {"timeout": 0.5},
    },
    # The one server that it can have is the first.
    "django": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": SERVERS[0],
    },
    "django-redis": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": SERVERS,
        "OPTIONS": {
            "CLIENT_CLASS": "django_redis.client.ShardClient",
            "SOCKET_TIMEOUT": 0.5,
            "IGNORE_EXCEPTIONS": True,
        },
    },
}
settings.configure(
    ALLOWED_HOSTS=["*"],
    # A prefix of its own: all have the same servers, and none can read what another has stored.
    CACHES={"default": {**CACHES[os.environ["CACHE"]], "KEY_PREFIX": os.environ["CACHE"]}},
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a benchmark",
)


def singles(_: HttpRequest) -> HttpResponse:
    """Twenty single reads."""
    return HttpResponse("".join(cache.get(key) or "" for key in KEYS[:20]))


def many(_: HttpRequest) -> HttpResponse:
    """One read of a hundred keys."""
    return HttpResponse("".join(cache.get_many(KEYS).values()))


def fill(_: HttpRequest) -> HttpResponse:
    """Store all fragments, 100 bytes each."""
    cache.set_many({key: key.ljust(100) for key in KEYS}, 3600)
    return HttpResponse("filled")


urlpatterns = [path("singles", singles), path("many", many), path("fill", fill)]
django.setup()
application = get_wsgi_application()
