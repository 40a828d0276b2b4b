"""Settings out of a URL."""

from contextlib import suppress
from dataclasses import fields
from typing import Literal, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache import Options
from shardcache.errors import InvalidArgument, InvalidOption, InvalidURL
from shardcache.url_options import read_url


def test_everything() -> None:
    """Client parameters, options and node settings are told apart, each of its own type."""
    found = read_url(
        "redis://h1,h2?namespace=shop&default_ttl=1.5&serializer=json&compression=zstd&timeout=0.2"
        "&on_unavailable=raise&compress_min=1&max_value=99&max_idle=2&placement=ketama&failures=4"
        "&first_probe=0.5&max_probe=9&max_out=0.5"
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
    assert read_url("redis://h1?timeout=2,redis://h2?timeout=2&failures=1").options == {
        "failures": 1
    }


@pytest.mark.parametrize(
    ("url", "kind", "says"),
    [
        (
            "redis://h1?timeout=2,redis://h2?timeout=3",
            InvalidURL,
            "two things of 'timeout': '2' and '3'",
        ),
        (
            "redis://h?timeout=fast",
            InvalidOption,
            "timeout in the URL must be a number, got 'fast'",
        ),
        (
            "redis://h?max_idle=1.5",
            InvalidOption,
            "max_idle in the URL must be a whole number, got '1.5'",
        ),
        (
            "redis://h?default_ttl=5s",
            InvalidOption,
            "default_ttl in the URL must be a number or 'none', got '5s'",
        ),
        ("redis://h?protocol=three", InvalidOption, "protocol in the URL"),
        (
            "redis://h?echo_check=ture",
            InvalidOption,
            "echo_check in the URL must be 'true' or 'false', got 'ture'",
        ),
        (
            "redis://h?echo_check=",
            InvalidOption,
            "echo_check in the URL must be 'true' or 'false', got ''",
        ),
        ("redis://h?signing_key=k", InvalidURL, r"give it as options=Options\(signing_key=…\)"),
        ("redis://h?on_event=f", InvalidURL, r"give it as options=Options\(on_event=…\)"),
    ],
)
def test_refused(url, kind, says) -> None:
    """A setting that contradicts itself or is no number is refused by name."""
    with pytest.raises(kind, match=says):
        read_url(url)


EXAMPLES = {int: "7", float: "0.5", bool: "yes", str: "text"}


def said_by_url(annotation) -> type | None:
    """Return the plain type of an annotation that a text can say: the test's own way to read it."""
    if get_origin(annotation) is Literal:
        return str
    plain = {"int": int, "float": float, "bool": bool, "str": str}
    words = {
        word.strip() for word in str(getattr(annotation, "__name__", annotation)).split("|")
    } - {
        "None",
        "NoneType",
    }
    return plain.get(words.pop()) if len(words) == 1 else None


@pytest.mark.parametrize("name", [one.name for one in fields(Options)])
def test_every_plain_option(name) -> None:
    """Every Options field that is text, number or flag may stand in a URL.

    Of the others the error says how to give them.
    """
    kind = str if name == "placement" else said_by_url(get_type_hints(Options)[name])
    if kind is None:
        with pytest.raises(
            InvalidURL, match=f"'{name}' cannot stand in a URL: give it as options="
        ):
            read_url(f"redis://h?{name}=x")
        return
    found = read_url(f"redis://h?{name}={EXAMPLES[kind]}").options
    assert (type(found[name]), list(found)) == (kind, [name])


@pytest.mark.parametrize("text", ["true", "True", "yes", "on", "1", "false", "NO", "off", "0"])
def test_flags(text) -> None:
    """A flag is written in the usual words."""
    assert read_url(f"redis://h?echo_check={text}").options == {
        "echo_check": text.lower() in ("true", "yes", "on", "1")
    }


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("tiemout", "timeout"),
        ("wieght", "weight"),
        ("Namespace", "namespace"),
        ("maxidle", "max_idle"),
    ],
)
def test_misspelt(wrong, near) -> None:
    """A misspelt setting is refused, with the nearest name and all that are allowed."""
    with pytest.raises(InvalidURL) as caught:
        read_url(f"redis://h?{wrong}=1")
    text = str(caught.value)
    assert f"'{wrong}' (did you mean '{near}'?)" in text
    told = text.partition("allowed are ")[2].split(", ")
    assert {
        "name",
        "weight",
        "db",
        "ssl_ca_certs",
        "namespace",
        "timeout",
        "max_idle",
        "echo_check",
        "client_name",
    } <= {*told}


def test_misspelt_beside_a_login() -> None:
    """Where a later URL has a login, the text before it is not quoted; its place is named."""
    with pytest.raises(InvalidURL) as caught:
        read_url("redis://h1?name=a,redis://:p@h2?tiemout=1&name=b,redis://:p@h3?name=c")
    text = str(caught.value)
    assert text.startswith(
        "URL 2 of 3 has an unknown setting, one that may be part of a "
        "password and is not shown (did you mean 'timeout'?)"
    )


@pytest.mark.parametrize("second", ["redis://h2?timeout=3", "redis://:p@h2?timeout=3"])
def test_contradiction_beside_a_login(second) -> None:
    """Values that contradict each other are quoted only where neither may be part of a login."""
    with pytest.raises(InvalidURL, match="the URLs say two things of 'timeout'") as caught:
        read_url(f"redis://h1?timeout=2222,{second}")
    assert ("2222" in str(caught.value)) == (":p@" not in second)


def test_nothing_near() -> None:
    """Where nothing is near, nothing is guessed."""
    with pytest.raises(InvalidURL, match="unknown setting, 'zzz'; allowed are name, "):
        read_url("redis://h?zzz=1")


@given(st.text())
def test_any_text(text) -> None:
    """Any text is read or refused by the library's own error."""
    with suppress(InvalidArgument):
        read_url(f"redis://h?{text}")
