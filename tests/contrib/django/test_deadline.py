"""`DeadlineMiddleware`: each request of a Django site has a deadline, under WSGI and ASGI."""

import asyncio
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path

from shardcache.request_deadline import caller_end, time_left

MIDDLEWARE = ["shardcache.contrib.django.DeadlineMiddleware"]


def _left() -> HttpResponse:
    return HttpResponse(f"{round(time_left() or 0, -2):.0f}")


def view(request: HttpRequest) -> HttpResponse:
    return _left()


async def async_view(request: HttpRequest) -> HttpResponse:
    in_thread = await sync_to_async(_left)()
    assert in_thread.content == _left().content
    return in_thread


def failing(request: HttpRequest) -> HttpResponse:
    raise KeyError


class Urls:
    urlpatterns = (path("", view), path("async", async_view), path("failing", failing))


def _bodies() -> list[str]:
    """Ask for both views under WSGI and ASGI."""

    async def ask() -> list[Any]:
        http = AsyncClient()
        return [await http.get("/"), await http.get("/async")]

    http = Client(raise_request_exception=False)
    assert http.get("/failing").status_code == 500
    answers = [http.get("/"), http.get("/async"), *asyncio.run(ask())]
    assert caller_end() is None
    return [answer.content.decode() for answer in answers]


def test_requests() -> None:
    """Each kind of view is bounded, whoever serves it; None switches the limit off."""
    with override_settings(ALLOWED_HOSTS=["testserver"], MIDDLEWARE=MIDDLEWARE, ROOT_URLCONF=Urls):
        with override_settings(SHARDCACHE_DEADLINE=1000):
            assert _bodies() == ["1000"] * 4
        with override_settings(SHARDCACHE_DEADLINE=None):
            assert _bodies() == ["0"] * 4


@pytest.mark.parametrize("given", [{}, {"SHARDCACHE_DEADLINE": "soon"}], ids=["none", "text"])
def test_what_cannot_be(given: Any) -> None:
    """A setting that is missing or wrong is an error when the site starts, with what to write."""
    with (
        override_settings(MIDDLEWARE=MIDDLEWARE, ROOT_URLCONF=Urls, **given),
        pytest.raises(ImproperlyConfigured, match=r"write SHARDCACHE_DEADLINE = 0\.2"),
    ):
        Client().get("/")
