"""A small site: pages, fragments, sessions and throttles over shards, one of which dies."""

from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.test import Client, override_settings
from django.urls import path
from django.views.decorators.cache import cache_page

from shardcache.embedded import LocalShards

calls: list[str] = []


@cache_page(60)
def page(request: HttpRequest, number: int) -> HttpResponse:
    calls.append(f"page {number}")
    return HttpResponse(f"page {number}")


def fragment(request: HttpRequest) -> HttpResponse:
    def value() -> str:
        calls.append("fragment")
        return "text"

    template = "{% load cache %}{% cache 60 part %}<b>{{ value }}</b>{% endcache %}"
    return HttpResponse(engines["django"].from_string(template).render({"value": value}))


def visits(request: HttpRequest) -> HttpResponse:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(f"{request.session['visits']}")


def throttled(request: HttpRequest, name: str) -> HttpResponse:
    # As django-ratelimit counts: a key of its own for each window, None if nobody can count.
    count = 1 if cache.add(name, 1, 60) else cache.incr(name)
    return HttpResponse(f"{count}")


class Urls:
    urlpatterns = (
        path("page/<int:number>", page),
        path("fragment", fragment),
        path("visits", visits),
        path("throttled/<name>", throttled),
    )


@pytest.fixture(params=["cache", "cached_db"])
def site(request: pytest.FixtureRequest, mortal: LocalShards, namespace: str) -> Any:
    """A visitor of the site, whose sessions are of one kind."""
    calls.clear()
    entry = {
        "BACKEND": "shardcache.contrib.django.ShardCacheBackend",
        "LOCATION": mortal.url,
        "KEY_PREFIX": namespace,
        "OPTIONS": {"timeout": 5},
    }
    with override_settings(
        ALLOWED_HOSTS=["testserver"],
        CACHES={"default": entry},
        MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
        ROOT_URLCONF=Urls,
        SESSION_ENGINE=f"django.contrib.sessions.backends.{request.param}",
    ):
        with connection.schema_editor() as editor:
            editor.create_model(Session)
        yield Client()
        with connection.schema_editor() as editor:
            editor.delete_model(Session)


def _read(site: Client, where: str) -> str:
    answer = site.get(where)
    assert answer.status_code == 200
    return answer.content.decode()


def test_site(site: Client, mortal: LocalShards) -> None:
    """Pages and fragments are made once; sessions and counts go on; a dead shard is no 500."""
    assert [_read(site, f"/page/{number}") for number in (1, 1, 2)] == [
        "page 1",
        "page 1",
        "page 2",
    ]
    assert [_read(site, "/fragment") for _ in range(2)] == ["<b>text</b>"] * 2
    assert calls == ["page 1", "page 2", "fragment"]
    assert [_read(site, "/visits") for _ in range(3)] == ["1", "2", "3"]
    assert [_read(site, "/throttled/a") for _ in range(3)] == ["1", "2", "3"]
    mortal.servers[0].kill()
    for number in range(10):
        assert _read(site, f"/page/{number}") == f"page {number}"
        assert _read(site, f"/throttled/{number}") in ("1", "None")
        assert _read(site, "/fragment") == "<b>text</b>"
        assert _read(Client(), "/visits") == "1"
