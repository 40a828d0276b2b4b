"""The system check and the command, as `manage.py` runs them."""

from typing import Any

import pytest
from django.core.checks import Tags, run_checks
from django.core.management import CommandError, call_command
from django.test import override_settings

from shardcache.embedded import LocalShards

OURS = "shardcache.contrib.django.ShardCacheBackend"
LOCAL = "redis://127.0.0.1:1"


def _found(**entry: Any) -> list[str]:
    """Return the identifiers of what the check says of one entry."""
    with override_settings(CACHES={"default": {"BACKEND": OURS, **entry}}):
        return [message.id for message in run_checks(tags=[Tags.caches])]


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        pytest.param({"LOCATION": LOCAL}, [], id="fine"),
        pytest.param({"LOCATION": "nonsense://h"}, ["shardcache.E001"], id="location"),
        pytest.param({"LOCATION": LOCAL, "OPTIONS": {"db": 1}}, ["shardcache.E001"], id="options"),
        pytest.param({"LOCATION": "redis://a.b,redis://c.d"}, ["shardcache.W001"], id="names"),
        pytest.param(
            {"LOCATION": LOCAL, "OPTIONS": {"signing_key": None}},
            ["shardcache.W002"],
            id="unsigned",
        ),
        pytest.param(
            {"LOCATION": LOCAL, "OPTIONS": {"signing_key": None, "serializer": "json"}},
            [],
            id="json",
        ),
        pytest.param(
            {"LOCATION": LOCAL, "KEY_FUNCTION": lambda *parts: str(hash(parts))},
            ["shardcache.W003"],
            id="hidden-key",
        ),
        pytest.param({"BACKEND": "django.core.cache.backends.dummy.DummyCache"}, [], id="other"),
    ],
)
def test_check(entry, found) -> None:
    """Each wrong or unwise setting is told, by an identifier that can be silenced."""
    assert _found(**entry) == found


def test_check_says_it_again() -> None:
    """The check does not depend on what has been made before."""
    assert [_found(LOCATION="redis://a.b,redis://c.d") for _ in range(2)] == [
        ["shardcache.W001"]
    ] * 2


@pytest.fixture
def site(shards: LocalShards, namespace: str) -> Any:
    """A site with one cache over four shards, and another one."""
    entry = {
        "BACKEND": OURS,
        "LOCATION": shards.url,
        "KEY_PREFIX": namespace,
        "OPTIONS": {"timeout": 20},
    }
    dummy = {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}
    with override_settings(CACHES={"default": dummy, "shards": entry}):
        from django.core.cache import caches

        yield caches["shards"]


def test_where(site, capsys) -> None:
    """It draws the ring, and asks the shard of the key in its version."""
    site.set("k", 1, None, version=3)
    call_command("shardcache", "where", "k", "--key-version", "3")
    said = capsys.readouterr().out
    place = site.client.explain(site.make_key("k", 3))
    assert f"{place.shard} <- {site.make_key('k', 3)}" in said
    assert "1 bytes, no expiry" in said
    with pytest.raises(SystemExit) as ended:
        call_command("shardcache", "where", "k")
    assert ended.value.code == 1


@pytest.mark.parametrize("what", ["ring", "stats"])
def test_shards(site, what, capsys) -> None:
    """Each shard has a line, and the site's client goes on."""
    call_command("shardcache", what)
    said = capsys.readouterr().out
    assert all(f"shard-{number}" in said for number in (1, 2, 3, 4))
    site.set("k", 1)
    assert site.get("k") == 1


def test_clear(site, capsys) -> None:
    """Keys of this prefix and version go, after a question."""
    site.set_many({"a": 1, "b": 2})
    site.set("c", 3, version=2)
    with pytest.raises(CommandError, match="give --yes"):
        call_command("shardcache", "clear")
    call_command("shardcache", "--cache", "shards", "clear", "--yes")
    assert capsys.readouterr().out == "2\n"
    assert (site.get("a"), site.get("c", version=2)) == (None, 3)


def test_which_cache(site) -> None:
    """A cache that is none of ours is refused."""
    with pytest.raises(CommandError, match="must be one of shards"):
        call_command("shardcache", "--cache", "default", "ring")
    with (
        override_settings(CACHES={}),
        pytest.raises(CommandError, match=r"no entry of CACHES has shardcache\.contrib"),
    ):
        call_command("shardcache", "ring")
