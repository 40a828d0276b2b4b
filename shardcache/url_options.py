"""Settings out of a URL such as ``redis://h1?name=a,redis://h2?name=b&timeout=0.2``.

Every field of `Options` that is a text, a number or a flag may stand there: its annotation says how
it is read.
"""

import types
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from shardcache.errors import InvalidOption, InvalidURL
from shardcache.options import Options
from shardcache.urls import ParsedURL, parse_many

__all__ = ("FLAGS", "TLS_SETTINGS", "FromURL", "read_url", "unknown_setting")

TLS_SETTINGS = (
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_cert_reqs",
    "ssl_check_hostname",
)
# What may be said of one node, of a cluster, and of Sentinels with their masters.
_SETTINGS = {
    "": ("name", "weight", "db", *TLS_SETTINGS),
    "cluster": ("db", *TLS_SETTINGS),
    "sentinel": (
        "masters",
        "db",
        "sentinel_username",
        "sentinel_password",
        "sentinel_tls",
        *TLS_SETTINGS,
    ),
}
FLAGS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
_NOTHING = ("none", "")


@dataclass(frozen=True, slots=True)
class _Form:
    """How a setting is read: ``what`` it must be, for the message."""

    read: Callable[[str], Any]
    what: str


def _flag(text: str) -> bool:
    try:
        return FLAGS[text.lower()]
    except KeyError:
        raise ValueError from None


_FORMS: dict[Any, _Form] = {
    str: _Form(str, "a text"),
    int: _Form(int, "a whole number"),
    float: _Form(float, "a number"),
    bool: _Form(_flag, "'true' or 'false'"),
}


def _or_none(form: _Form) -> _Form:
    return _Form(
        lambda text: None if text.lower() in _NOTHING else form.read(text), f"{form.what} or 'none'"
    )


def _form(annotation: Any) -> _Form | None:
    """Return how a field of this annotation is read out of a text; None where none can say it."""
    if get_origin(annotation) is Literal and all(type(one) is str for one in get_args(annotation)):
        return _FORMS[str]
    if get_origin(annotation) in (types.UnionType, Union):
        kinds = [one for one in get_args(annotation) if one is not type(None)]
        kind = float if set(kinds) == {int, float} else kinds[0] if len(kinds) == 1 else None
        inner = _form(kind)
        return _or_none(inner) if inner and type(None) in get_args(annotation) else inner
    return _FORMS.get(annotation)


_CLIENT: dict[str, _Form] = {
    "namespace": _FORMS[str],
    "default_ttl": _or_none(_FORMS[float]),
    "serializer": _FORMS[str],
    "compression": _or_none(_FORMS[str]),
    "timeout": _FORMS[float],
    "on_unavailable": _FORMS[str],
}
# A placement may be a callable, and is a text most of the time.
_OPTIONS: dict[str, _Form] = {"placement": _FORMS[str]} | {
    name: form
    for name, annotation in get_type_hints(Options).items()
    if (form := _form(annotation)) is not None
}
_OBJECTS = frozenset(one.name for one in fields(Options)) - _OPTIONS.keys()


@dataclass(frozen=True, slots=True)
class FromURL:
    """What one text said: the shards, the client's parameters, and the changed options."""

    urls: list[ParsedURL]
    client: dict[str, Any] = field(repr=False)
    options: dict[str, Any] = field(repr=False)

    def merged(self, options: Options | None) -> Options:
        """Return ``options`` (or the defaults) with what the URL said on top."""
        if options is not None and not isinstance(options, Options):
            raise InvalidOption(
                f"options must be a shardcache.options.Options, got {type(options).__name__}"
            )
        given = options or Options()
        return Options(
            **{one.name: getattr(given, one.name) for one in fields(Options)} | self.options
        )


def read_url(text: str) -> FromURL:
    """Parse ``text`` into shards and settings; raise `InvalidURL` for what cannot be read."""
    said: dict[str, tuple[str, ParsedURL]] = {}
    client: dict[str, Any] = {}
    options: dict[str, Any] = {}
    urls = []
    for url in parse_many(text):
        rest = {}
        for name, value in url.query.items():
            if name in _SETTINGS[url.kind]:
                rest[name] = value
                continue
            form = _CLIENT.get(name) or _OPTIONS.get(name)
            if form is None:
                raise unknown_setting(name, url, whole_client=True)
            before, of = said.setdefault(name, (value, url))
            if before != value:
                both = f": {before!r:.80} and {value!r:.80}" if of.quotable and url.quotable else ""
                raise InvalidURL(f"the URLs say two things of {name!r}{both}")
            (client if name in _CLIENT else options)[name] = _read(name, value, form, url)
        urls.append(replace(url, query=rest))
    return FromURL(urls, client, options)


def unknown_setting(name: str, url: ParsedURL, *, whole_client: bool) -> InvalidURL:
    """Return the error for a setting that is not allowed; it names the allowed ones."""
    if not whole_client and (name in _CLIENT or name in _OPTIONS):
        how = f"{name}=…" if name in _CLIENT else f"options=Options({name}=…)"
        return InvalidURL(
            f"{url.shown} sets {name!r}, which is one for the whole client: "
            f"give it as {how}, or make the client by from_url"
        )
    if name in _OBJECTS:
        return InvalidURL(f"{name!r} cannot stand in a URL: give it as options=Options({name}=…)")
    settings = _SETTINGS[url.kind]
    near = get_close_matches(name.lower(), (*settings, *_CLIENT, *_OPTIONS), 1, 0.5)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    allowed = (*settings, *_CLIENT, *_OPTIONS) if whole_client else settings
    return InvalidURL(
        f"{url.shown} has an unknown setting, {url.quote(name)}{meant}; allowed are "
        f"{', '.join(allowed)}"
    )


def _read(name: str, text: str, form: _Form, url: ParsedURL) -> Any:
    try:
        return form.read(text)
    except ValueError:
        pass  # raised below, where the error does not carry the text along
    raise InvalidOption(f"{name} in the URL must be {form.what}, got {url.quote(text)}")
