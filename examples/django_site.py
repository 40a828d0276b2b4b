"""A Django site on local shards, with a status page and buttons that kill a shard.

Run it: ``pip install "shardcache[django,embedded]" gunicorn`` and ``python django_site.py``; then
open http://127.0.0.1:8000/. What follows on the command line goes to gunicorn.
"""

import os
import secrets
import sys
from collections.abc import Iterable
from typing import Any

import django
from django.conf import settings
from django.core.cache import cache, caches
from django.core.handlers.wsgi import WSGIHandler
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.middleware.csrf import get_token
from django.urls import path
from django.views.decorators.http import require_POST
from local_site import PRODUCTS, front_page, leave_note, look_up, serve

from shardcache import ShardCache
from shardcache.contrib.status import WSGIStatus

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    # All workers need the same key: they have it from the parent process.
    SECRET_KEY=os.environ.setdefault("SITE_SECRET_KEY", secrets.token_hex()),
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
    CACHES={
        "default": {
            "BACKEND": "shardcache.contrib.django.ShardCacheBackend",  # LOCATION: SHARDCACHE_URL
            "KEY_PREFIX": "shop",
            "TIMEOUT": 60,
            "OPTIONS": {"timeout": 0.2},
        }
    },
)


def client() -> ShardCache:
    """Return the client behind Django's cache, one for each worker."""
    found: ShardCache = caches["default"].client
    return found


def shard_of(key: str) -> str:
    """Return the shard where Django's cache has a key."""
    return client().explain(cache.make_key(key)).shard


def shop(request: HttpRequest) -> HttpResponse:
    """Show all products: one exchange per shard, all shards at once."""
    texts = cache.get_many(PRODUCTS)
    computed = {key: look_up(key) for key in PRODUCTS if key not in texts}
    cache.set_many(computed)
    token = f'<input type="hidden" name="csrfmiddlewaretoken" value="{get_token(request)}">'
    page = front_page(
        {key: {**texts, **computed}[key] for key in PRODUCTS},
        texts,
        {key: shard_of(key) for key in PRODUCTS},
        {name: shard.service for name, shard in client().stats().shards.items()},
        token,
    )
    return HttpResponse(page)


def product(request: HttpRequest, number: int) -> JsonResponse:
    """Show one product, computed by one worker at a time, and the shard that answers for it."""
    del request
    key = f"product:{number}"
    text = cache.get_or_set(key, lambda: look_up(key))
    return JsonResponse({"product": text, "shard": shard_of(key)})


@require_POST
def change(request: HttpRequest, action: str, shard: str) -> HttpResponse:
    """Kill or start a shard."""
    del request
    if not leave_note(action, shard, client().stats().shards):
        raise Http404
    return HttpResponseRedirect("/")


urlpatterns = [
    path("", shop),
    path("products/<int:number>", product),
    path("<str:action>/<str:shard>", change),
]
django.setup()
_site, _status = WSGIHandler(), WSGIStatus(client)


def application(environ: Any, start_response: Any) -> Iterable[bytes]:
    """Answer by the status page below /shards, else by the site."""
    if environ["PATH_INFO"].startswith("/shards"):
        return _status(environ, start_response)
    return _site(environ, start_response)


if __name__ == "__main__":
    gunicorn = [sys.executable, "-m", "gunicorn", "--workers", "4", "django_site:application"]
    raise SystemExit(serve([*gunicorn, *sys.argv[1:]]))
