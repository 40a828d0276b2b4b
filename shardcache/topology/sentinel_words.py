"""What Sentinels say of masters, and which of their words counts where they disagree.

Theory
------
A failover needs the votes of a majority of the Sentinels, and gives the configuration of its master
a new, higher number: the config epoch. So of two configurations the one with the higher epoch is
what a majority has agreed to last, even while one Sentinel alone has heard of it. A Sentinel with a
lower epoch is behind: it was out, or it is cut off with a minority, which can make no new epoch.
(An operator's SENTINEL FAILOVER makes one without a vote; the Sentinels themselves follow it too.)

So of the words of those that answer

- the highest epoch counts, and of words with the same epoch the one that most say. Words that
  differ in one epoch come of Sentinels that were set up apart; if as many say the one as the other,
  none counts;
- a lower epoch than that of the last good word counts only if a majority of all Sentinels of that
  master says it: they have been set up anew. Else none counts, since those that would know better
  are out.

Where none counts, the last good address stays.

Replicas are for reads, and a wrong one costs little: so those count which more than half of the
Sentinels whose word counts call well. A replica is well if it is not down (s_down, o_down), not
disconnected, and has a link to its master.

A flag of the master (s_down, o_down) changes nothing: it is still the master until there is another
one.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple

from shardcache.resp import Command, ErrorReply, Reply
from shardcache.urls import host_name

__all__ = ("Answer", "Named", "Place", "Word", "questions", "read_answer", "replicas", "verdict")

Place = tuple[str, int]  # host and port
UNKNOWN = -1  # the epoch of a Sentinel that does not tell it: older than any other
_QUESTIONS = (b"MASTER", b"GET-MASTER-ADDR-BY-NAME", b"SENTINELS")
_MOST = 64  # Sentinels, and replicas of a master, that are believed to be there
_NOT_WELL = frozenset({"s_down", "o_down", "disconnected"})


class Word(NamedTuple):
    """What one Sentinel says of one master: its address, the epoch, how many Sentinels there are.

    ``sentinels``: itself and those that it knows; 0 if it does not tell.
    """

    host: str
    port: int
    epoch: int = UNKNOWN
    sentinels: int = 0


class Named(NamedTuple):
    """A Sentinel as another one names it: its id, host and port."""

    id: str
    host: str
    port: int


class Answer(NamedTuple):
    """What one Sentinel says.

    ``id``: its own id; "" if it does not tell it.
    ``words``: by the master's name; a master that it does not know is left out.
    ``others``: the Sentinels that it names.
    ``replicas``: by the master's name, those of its replicas that are well, if it was asked.
    """

    id: str
    words: dict[str, Word]
    others: frozenset[Named]
    replicas: Mapping[str, frozenset[Place]] = MappingProxyType({})


def questions(masters: Iterable[str], *, replicas: bool = False) -> list[Command]:
    """Return the commands of one exchange with one Sentinel.

    ``masters``: the names of the masters.
    ``replicas``: whether it is asked for their replicas too.
    """
    # The epoch before the address: should a failover end between the two, the new address has the
    # old epoch, and not the old address the new one.
    return [(b"SENTINEL", b"MYID")] + [
        (b"SENTINEL", word, name.encode())
        for name in masters
        for word in (*_QUESTIONS, b"REPLICAS")[: len(_QUESTIONS) + replicas]
    ]


def read_answer(masters: Sequence[str], replies: Sequence[Reply]) -> Answer | str:
    """Return what the replies to `questions` say; a text if they refuse or make no sense.

    A server that knows the plain question for the address alone, or lets nobody ask for more, is
    understood too: its word has no epoch.
    """
    myid, rest = replies[0], replies[1:]
    words: dict[str, Word] = {}
    others: set[Named] = set()
    replicas: dict[str, frozenset[Place]] = {}
    number = len(rest) // max(len(masters), 1)
    for at, name in enumerate(masters):
        master, address, sentinels, *more = rest[at * number : (at + 1) * number]
        if isinstance(address, ErrorReply):
            return str(address)
        if address is not None:
            word = _word(address, master)
            if word is None:
                return f"it has no address for the master {name!r} that can be one"
            words[name] = word
        if isinstance(sentinels, list):
            others.update(filter(None, map(_named, sentinels[:_MOST])))
        if more and isinstance(more[0], list):
            replicas[name] = frozenset(filter(None, map(_well, more[0][:_MOST])))
    return Answer(_text(myid), words, frozenset(others), replicas)


def verdict(words: Iterable[Word], last: Word | None, asked: int) -> Word | None:
    """Return the word that counts; None if there is none.

    ``words``: of the Sentinels that know the master, one of each.
    ``last``: the last word that counted, if there is one.
    ``asked``: how many Sentinels were asked.
    """
    words = list(words)
    epoch = max((word.epoch for word in words), default=UNKNOWN)
    said = Counter((word.host, word.port) for word in words if word.epoch == epoch)
    (place, votes), *others = said.most_common() or [(("", 0), 0)]
    if not votes or any(number == votes for _, number in others):
        return None
    if last is not None and epoch < last.epoch:
        there = max(asked, *(word.sentinels for word in words))
        if votes * 2 <= there:
            return None
    return Word(*place, epoch)


def replicas(name: str, word: Word, answers: Iterable[Answer]) -> list[Place]:
    """Return where those replicas of a master are that count, in order.

    ``name``: the name of the master.
    ``word``: the word on the master that counts.
    ``answers``: of the Sentinels, one of each.
    """
    said = [
        answer.replicas[name]
        for answer in answers
        if name in answer.replicas and answer.words.get(name, ())[:3] == word[:3]
    ]
    votes = Counter(chain.from_iterable(said))
    votes.pop((word.host, word.port), None)
    return sorted(place for place, number in votes.items() if number * 2 > len(said))


def _well(reply: Reply) -> Place | None:
    """Return where a replica is, if it is well."""
    about = _fields(reply)
    flags = set(about.get("flags", "").split(","))
    if flags & _NOT_WELL or about.get("master-link-status") != "ok":
        return None
    return _place(about.get("ip", ""), about.get("port", ""))


def _word(address: Reply, master: Reply) -> Word | None:
    place = _place(*address) if isinstance(address, list) and len(address) == 2 else None
    if place is None:
        return None
    about = _fields(master)
    epoch = _number(about.get("config-epoch"))
    others = _number(about.get("num-other-sentinels"))
    return Word(
        *place,
        UNKNOWN if epoch is None else epoch,
        0 if others is None else min(others, _MOST) + 1,
    )


def _named(reply: Reply) -> Named | None:
    about = _fields(reply)
    place = _place(about.get("ip", ""), about.get("port", ""))
    return None if place is None else Named(about.get("runid", ""), *place)


def _place(host: Reply, port: Reply) -> Place | None:
    name, number = host_name(_text(host)), _number(_text(port))
    return (name, number) if name and number and number < 65536 else None


def _fields(reply: Reply) -> dict[str, str]:
    """Return names and values of a reply, which is a map in RESP3 and a flat list in RESP2."""
    if isinstance(reply, list):
        reply = dict(zip(map(_text, reply[::2]), reply[1::2], strict=False))
    if not isinstance(reply, dict):
        return {}
    return {_text(name): _text(value) for name, value in reply.items()}


def _text(reply: Reply) -> str:
    if isinstance(reply, bytes):
        return reply.decode("utf-8", "replace")
    return reply if isinstance(reply, str) else ""


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else None
