"""Settings out of a URL."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache import Options
from shardcache.errors import InvalidArgument, InvalidOption, InvalidURL
from shardcache.settings import read_url


def test_everything() -> None:
    """Client parameters, options and what belongs to the nodes are told apart, each of its own type."""
    found = read_url(
        "redis://h1,h2?namespace=shop&default_ttl=1.5&serializer=json&compression=zstd&timeout=0.2&on_unavailable=raise"
        "&compress_min=1&max_value=99&max_idle=2&placement=ketama&failures=4&first_probe=0.5&max_probe=9&max_out=0.5"
        "&protocol=2&client_name=me&weight=2"
    )
    assert found.client == {
        "namespace": "shop",
        "default_ttl": 1.5,
        "serializer": "json",
        "compression": "zstd",
        "timeout": 0.2,
        "on_unavailable": "raise",
    }
    assert found.options == {
        "compress_min": 1,
        "max_value": 99,
        "max_idle": 2,
        "placement": "ketama",
        "failures": 4,
        "first_probe": 0.5,
        "max_probe": 9.0,
        "max_out": 0.5,
        "protocol": 2,
        "client_name": "me",
    }
    assert [one.query for one in found.urls] == [{"weight": "2"}] * 2


def test_nothing_said() -> None:
    """What a URL does not mention stays the default."""
    found = read_url("redis://h")
    assert (found.client, found.options, found.merged(None)) == ({}, {}, Options())


@pytest.mark.parametrize("text", ["none", "None", "NONE", ""])
def test_none(text) -> None:
    """No expiry and no compression are written as none, or as nothing."""
    found = read_url(f"redis://h?default_ttl={text}&compression={text}")
    assert found.client == {"default_ttl": None, "compression": None}


def test_merged() -> None:
    """What the URL says wins over the options given beside it, which keep the rest."""
    given_options = Options(max_idle=5, failures=7)
    assert read_url("redis://h?max_idle=9").merged(given_options) == Options(max_idle=9, failures=7)


def test_settings_of_several_urls() -> None:
    """Settings may stand in any of the URLs, or in all of them alike."""
    assert read_url("redis://h1?timeout=2,redis://h2").client == {"timeout": 2.0}
    assert read_url("redis://h1?timeout=2,redis://h2?timeout=2&failures=1").options == {"failures": 1}


@pytest.mark.parametrize(
    ("url", "kind", "says"),
    [
        ("redis://h1?timeout=2,redis://h2?timeout=3", InvalidURL, "two things of 'timeout': '2' and '3'"),
        ("redis://h?timeout=fast", InvalidOption, "timeout in the URL must be a number, got 'fast'"),
        ("redis://h?max_idle=1.5", InvalidOption, "max_idle in the URL must be a number, got '1.5'"),
        ("redis://h?default_ttl=5s", InvalidOption, "default_ttl in the URL must be a number, got '5s'"),
        ("redis://h?protocol=three", InvalidOption, "protocol in the URL"),
    ],
)
def test_refused(url, kind, says) -> None:
    """A setting that contradicts itself or is no number is refused by name."""
    with pytest.raises(kind, match=says):
        read_url(url)


@given(st.text())
def test_any_text(text) -> None:
    """Any text is read or refused by the library's own error."""
    with suppress(InvalidArgument):
        read_url(f"redis://h?{text}")
