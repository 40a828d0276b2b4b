"""A site with django-ratelimit, throttles of Django REST framework and cachalot over two shards.

A program of its own, because cachalot changes Django's ORM for the whole process. Run by
`test_site_of_others.py`; what it prints are the status codes, texts and counts that are compared.
"""

import json
from contextlib import ExitStack

import django
from django.conf import settings

from shardcache.embedded import LocalShards

stack = ExitStack()
shards = stack.enter_context(LocalShards(2, tcp=True))
settings.configure(
    ALLOWED_HOSTS=["testserver"],
    CACHES={
        "default": {
            "BACKEND": "shardcache.contrib.django.ShardCacheBackend",
            "LOCATION": shards.url,
            "OPTIONS": {"timeout": 5},
        }
    },
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["django.contrib.sessions", "django_ratelimit", "cachalot"],
    MIDDLEWARE=[
        "django.middleware.cache.UpdateCacheMiddleware",
        "django.middleware.cache.FetchFromCacheMiddleware",
    ],
    REST_FRAMEWORK={"UNAUTHENTICATED_USER": None},
    ROOT_URLCONF="__main__",
    SECRET_KEY="a secret of fifty characters, as Django makes them",
)
django.setup()

from django.contrib.sessions.models import Session  # noqa: E402
from django.core.checks import run_checks  # noqa: E402
from django.db import connection  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils import timezone  # noqa: E402
from django.views.decorators.cache import never_cache  # noqa: E402
from django_ratelimit.decorators import ratelimit  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.throttling import AnonRateThrottle  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

made: list[str] = []


@never_cache
@ratelimit(key="header:x-user", rate="2/h")
def limited(request):
    return HttpResponse("seen")


class Hourly(AnonRateThrottle):
    rate = "2/hour"


class Throttled(APIView):
    authentication_classes = ()
    permission_classes = ()
    throttle_classes = (Hourly,)

    def get(self, request):
        return Response("seen", headers={"Cache-Control": "no-store, private"})


def page(request, name):
    made.append(name)
    return HttpResponse(name)


urlpatterns = [
    path("limited", limited),
    path("throttled", Throttled.as_view()),
    path("page/<name>", page),
]


def queries() -> int:
    """Return how many queries the ORM sends for what it has asked before."""
    with CaptureQueriesContext(connection) as sent:
        list(Session.objects.filter(session_key="k"))
    return len(sent)


def add_session(key: str) -> None:
    Session(session_key=key, session_data="", expire_date=timezone.now()).save()


http = Client()
found = {
    "warnings": sorted(one.id for one in run_checks()),
    "limited": [http.get("/limited", headers={"x-user": "ada"}).status_code for _ in range(4)],
    "throttled": [http.get("/throttled").status_code for _ in range(4)],
    "pages": [http.get(f"/page/{name}").content.decode() for name in "aab"],
    "made": list(made),
}
with connection.schema_editor() as editor:
    editor.create_model(Session)
queries()
found["queries"] = [queries(), queries()]
add_session("k")
found["after a write"] = [queries(), queries()]
for server in shards.servers:
    server.kill()
found["out"] = {
    "limited": http.get("/limited", headers={"x-user": "ada"}).status_code,
    "throttled": http.get("/throttled").status_code,
    "page": http.get("/page/a").content.decode(),
    "queries": queries(),
}
print(json.dumps(found))
stack.close()
