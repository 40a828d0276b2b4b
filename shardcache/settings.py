"""Settings out of a URL: ``redis://h1,h2/0?namespace=shop&timeout=0.2`` says it all in one text."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from shardcache.errors import InvalidOption, InvalidURL
from shardcache.options import Options
from shardcache.urls import ParsedURL, parse_many

__all__ = ("FromURL", "read_url")


def _ttl(text: str) -> float | None:
    return None if text.lower() in ("none", "") else float(text)


_CLIENT: dict[str, Callable[[str], Any]] = {
    "namespace": str,
    "default_ttl": _ttl,
    "serializer": str,
    "compression": lambda text: None if text.lower() in ("none", "") else text,
    "timeout": float,
    "on_unavailable": str,
}
_OPTIONS: dict[str, Callable[[str], Any]] = {
    "compress_min": int,
    "max_value": int,
    "max_idle": int,
    "max_in_flight": int,
    "max_bytes_in_flight": int,
    "placement": str,
    "failures": int,
    "first_probe": float,
    "max_probe": float,
    "max_out": float,
    "protocol": int,
    "echo_check": lambda text: text.lower() in ("1", "true", "yes"),
    "client_name": str,
}


@dataclass(frozen=True, slots=True)
class FromURL:
    """What one text said: the shards, the client's parameters, and the changed options."""

    urls: list[ParsedURL]
    client: dict[str, Any]
    options: dict[str, Any]

    def merged(self, options: Options | None) -> Options:
        """Return ``options`` (or the defaults) with what the URL said on top."""
        if options is not None and not isinstance(options, Options):
            raise InvalidOption(f"options must be a shardcache.options.Options, got {type(options).__name__}")
        given = options or Options()
        return Options(**{one.name: getattr(given, one.name) for one in fields(Options)} | self.options)


def read_url(text: str) -> FromURL:
    """Parse ``text`` into shards and settings; raise `InvalidURL` for what cannot be read or contradicts itself."""
    said: dict[str, str] = {}
    urls = []
    for url in parse_many(text):
        rest = {}
        for name, value in url.query.items():
            if name not in _CLIENT and name not in _OPTIONS:
                rest[name] = value
            elif said.setdefault(name, value) != value:
                raise InvalidURL(f"the URLs say two things of {name!r}: {said[name]!r} and {value!r}")
        urls.append(ParsedURL(url.address, rest))
    return FromURL(urls, _converted(said, _CLIENT), _converted(said, _OPTIONS))


def _converted(said: dict[str, str], table: dict[str, Callable[[str], Any]]) -> dict[str, Any]:
    found = {}
    for name in table.keys() & said.keys():
        try:
            found[name] = table[name](said[name])
        except ValueError:
            raise InvalidOption(f"{name} in the URL must be a number, got {said[name]!r:.80}") from None
    return found
