"""Sentinels and the masters asked of them: ``redis+sentinel://s1:26379,s2:26379?masters=a,b``.

Two logins: the one before the "@" is that of the masters (as in lettuce and go-redis). That of the
Sentinels is ``sentinel_username`` and ``sentinel_password`` in the query (the names that go-redis
has for them); without these, Sentinels are asked without a login.
``sentinel_tls`` says whether the Sentinels are reached over TLS, where they differ from the masters
in that; the ``ssl_`` settings are for both.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from shardcache.errors import InvalidNode, InvalidURL
from shardcache.options import TLS
from shardcache.placement.node import Node
from shardcache.topology.nodes import tls_of
from shardcache.url_options import FLAGS, TLS_SETTINGS, unknown_setting
from shardcache.urls import Address, ParsedURL

__all__ = ("SentinelSet",)

# What the sentinel.conf of the servers allows in the name of a master.
_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class SentinelSet:
    """The Sentinels that are asked, the masters asked for, and how both are reached.

    ``sentinels``: their addresses, with the login that they want.
    ``masters``: the nodes of the ring: the names that the Sentinels know the masters by, each with
        its weight.
    ``login``: an address without a host: database, TLS and login of every master.
    ``tls``: how certificates are checked, where the URL says so; None: as the client's `Options`.
    """

    sentinels: tuple[Address, ...]
    masters: tuple[Node, ...]
    login: Address
    tls: TLS | None = None
    # The ssl_ settings in the words of a URL.
    _settings: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, urls: Sequence[ParsedURL]) -> Self:
        """Return what one ``redis+sentinel://`` URL names.

        ``urls``: what `parse_many` or `read_url` made of it.

        Raises `InvalidURL` for a setting that is not for Sentinels, for several logins, and where
        no masters are named; `InvalidNode` for a master's name or weight that cannot be.
        """
        first = urls[0]
        query = dict(first.query)
        masters = _masters(query.pop("masters", ""), first)
        # Logins: that of the masters is the one before the hosts.
        if len({(url.address.username, url.address.password) for url in urls}) > 1:
            raise InvalidURL(
                f"{first.which} gives its Sentinels several logins; the one before the first host "
                "is that of the masters, and sentinel_password=… in the query that of the Sentinels"
            )
        username = query.pop("sentinel_username", None) or None
        password = query.pop("sentinel_password", None) or None
        if username is not None and password is None:
            raise InvalidURL(f"{first.which} has a sentinel_username without a sentinel_password")
        # TLS: of the masters by the scheme, of the Sentinels too unless they differ.
        login = replace(first.address, host="", port=6379)
        said = query.pop("sentinel_tls", str(login.tls)).lower()
        if said not in FLAGS:
            raise InvalidURL(f"sentinel_tls must be 'true' or 'false', got {first.quote(said)}")
        settings = tuple((name, query[name]) for name in TLS_SETTINGS if name in query)
        tls = tls_of(query, first)
        if tls is not None and not (login.tls or FLAGS[said]):
            raise InvalidURL(
                f"{first.which} has ssl_ settings but is not rediss+sentinel://, nor has it "
                "sentinel_tls=true"
            )
        for setting in query:
            raise unknown_setting(setting, first, whole_client=False)
        sentinels = (
            replace(url.address, db=0, tls=FLAGS[said], username=username, password=password)
            for url in urls
        )
        return cls(tuple(dict.fromkeys(sentinels)), masters, login, tls, settings)

    def sentinel(self, host: str, port: int) -> Address:
        """Return the address of a Sentinel that another one has named, with the Sentinels' login.

        ``host``: a name or an IP address, IPv6 without brackets.
        ``port``: 1 to 65535.
        """
        return replace(self.sentinels[0], host=host, port=port)

    def data_server(self, host: str, port: int) -> Address:
        """Return the address of a master or a replica, with the login of all of them.

        ``host``: a name or an IP address, IPv6 without brackets.
        ``port``: 1 to 65535.
        """
        return replace(self.login, host=host, port=port)

    def node(self, master: Node, host: str, port: int) -> ParsedURL:
        """Return the node of the ring that ``master`` is, at the address that the Sentinels say.

        ``master``: one of ``masters``.
        ``host``: a name or an IP address, IPv6 without brackets.
        ``port``: 1 to 65535.
        """
        query = {"name": master.name, "weight": repr(master.weight)}
        if self.login.tls:
            query |= self._settings
        return ParsedURL(self.data_server(host, port), query)


def _masters(text: str, url: ParsedURL) -> tuple[Node, ...]:
    """Return the masters of ``a,b:2``: names, each with a weight behind a colon or without."""
    if not text.strip():
        raise InvalidURL(
            f"{url.which} needs the names by which the Sentinels know the masters, as in "
            "redis+sentinel://s1:26379,s2:26379?masters=a,b"
        )
    found: dict[str, Node] = {}
    for item in text.split(","):
        name, colon, weight = item.strip().partition(":")
        if not _NAME.fullmatch(name):
            raise InvalidNode(
                "masters must be names joined by commas, each of letters, digits and '.-_' and "
                f"with ':weight' behind it or without, got {url.quote(item)}"
            )
        if name in found:
            raise InvalidNode(f"masters has {url.quote(name)} more than once")
        found[name] = Node(name, _weight(weight, url) if colon else 1.0)
    return tuple(found.values())


def _weight(text: str, url: ParsedURL) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise InvalidNode(
            f"the weight of a master must be a number, as in masters=a:2,b, got {url.quote(text)}"
        )
    return weight
