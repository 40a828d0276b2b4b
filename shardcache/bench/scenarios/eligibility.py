"""Who takes part, and in a sentence why somebody does not."""

from collections.abc import Iterable, Iterator

from shardcache.bench.figure import Absent
from shardcache.bench.peers.peer import Peer
from shardcache.bench.peers.registry import PEERS
from shardcache.bench.scenarios.case import Case
from shardcache.bench.scenarios.servers import Servers, Unavailable

__all__ = ("Unfit", "installed", "reason_of", "refusal")


class Unfit(Exception):
    """A peer that cannot take part; the text says why."""


def installed(names: Iterable[str]) -> Iterator[Peer | Absent]:
    """Yield the peers of these names, or that they are not installed."""
    for peer in map(PEERS.__getitem__, names):
        if peer.installed:
            yield peer
        else:
            yield Absent(peer.name, f"not installed: pip install {peer.package}")


def refusal(peer: Peer, case: Case, servers: Servers) -> str:
    """Return why the peer cannot take part in a case; "" if it can."""
    if reason := peer.refuses(case):
        return reason
    try:
        servers.find(peer.kind, case)
    except Unavailable as error:
        return str(error)
    return ""


def reason_of(error: Exception) -> str:
    """Return in one line why a peer is left out."""
    text = " ".join(str(error).split())
    known = isinstance(error, Unfit | Unavailable)
    return text if known else f"failed: {type(error).__name__}: {text:.100}"
