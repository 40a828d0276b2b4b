"""Where the masters of a `SentinelSet` are, asked of the Sentinels: a source for a `NodeWatch`.

All Sentinels are asked at once, each over a connection of its own that is closed behind the answer,
and in a thread of its own: one that hangs delays nobody. When a majority has answered, or all who
did the last time, the others have a moment left. What counts where they disagree is in
`topology/sentinel_words.py`.

| what a poll finds | what it returns |
|---|---|
| a word that counts for each master | the nodes |
| none for a master that was known before | its last good address; an event tells, once |
| none for a master that was never known | `DiscoveryFailed`, which names the master |
| no Sentinel answers | `DiscoveryFailed`, which says why each did not |

Where replicas are read from, it asks for those of each master too; while no word counts, the last
ones stay.

With the error the watch goes on with its last good answer.

If it `follow` s, a `SentinelListener` has it asked sooner. Each poll looks whether that has its
thread: after a fork, or when no thread could be started, it has none.
"""

import random
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from math import inf
from typing import Self

from shardcache.address_map import mapped
from shardcache.drivers.asked_server import AskedServer, has_answered, wait_for_answers
from shardcache.drivers.sentinel_listener import SentinelListener
from shardcache.errors import AuthenticationFailed, DiscoveryFailed
from shardcache.events import Event, emit
from shardcache.options import Options
from shardcache.refusals import words
from shardcache.topology.sentinel_set import SentinelSet
from shardcache.topology.sentinel_words import (
    Answer,
    Word,
    questions,
    read_answer,
    replicas,
    verdict,
)
from shardcache.urls import Address, ParsedURL
from shardcache.wire import Connection, Dialer, pack_all

__all__ = ("SentinelSource", "sentinel_dialer")

TIMEOUT = 2.0
GRACE = 0.25
_MOST = 16  # Sentinels that are asked
_MAX_VALUE = 64 * 1024
_LOGIN = (
    " (the login of Sentinels is sentinel_username=… and sentinel_password=… in the query of the "
    "URL)"
)


def sentinel_dialer(
    address: Address, sentinels: SentinelSet, options: Options, clock: Callable[[], float]
) -> Dialer:
    """Return what opens connections to one Sentinel.

    ``address``: where it is, with its login.
    ``sentinels``: the set that it belongs to, whose TLS settings win over those of ``options``.
    ``options``: of the client. The login of a credential provider is that of the masters, and ECHO
        is not for Sentinels.
    ``clock``: the time in seconds.
    """
    name = f"Sentinel {_place(address)}"
    fit = replace(
        options,
        credential_provider=None,
        echo_check=False,
        max_value=_MAX_VALUE,
        tls=sentinels.tls or options.tls,
    )
    return Dialer(name, address, fit, clock, "sentinel")


def _place(address: Address) -> str:
    return address.label.rpartition("/")[0]


class SentinelSource:
    """Asks Sentinels for their masters, and returns the nodes of the ring.

    ``sentinels``: whom to ask, and for what.
    ``options``: of the client: its TLS, its hook and its ``address_map``.
    ``timeout``: seconds that all Sentinels together have, connecting included.
    ``clock``: the time in seconds.
    ``random``: random numbers from 0 to 1.
    ``grace``: seconds that the rest has when a majority has answered. Default: 0.25.
    """

    __slots__ = (
        "_asked",
        "_clock",
        "_grace",
        "_last",
        "_listener",
        "_options",
        "_places",
        "_random",
        "_reads_replicas",
        "_replicas",
        "_set",
        "_timeout",
        "_unsure",
    )

    def __init__(
        self,
        sentinels: SentinelSet,
        options: Options,
        *,
        timeout: float,
        clock: Callable[[], float],
        random: Callable[[], float],
        grace: float = GRACE,
    ) -> None:
        self._set = sentinels
        self._options = options
        self._timeout = timeout
        self._clock = clock
        self._random = random
        self._grace = grace
        self._last: dict[str, Word] = {}
        self._reads_replicas = options.read_from != "primary"
        self._replicas: dict[str, tuple[Address, ...]] = {}
        self._unsure: set[str] = set()  # masters of which an event has told
        self._listener: SentinelListener | None = None
        # The addresses of those that are asked: the listener has this dict and not the source,
        # which has the listener.
        self._places: dict[str, tuple[Address, ...]] = {}
        self._asked: tuple[AskedServer[Answer], ...] = ()
        self._know(())

    @classmethod
    def of(cls, sentinels: SentinelSet, options: Options) -> Self:
        """Return the source of a client, with the clock and the random numbers of the system."""
        return cls(sentinels, options, timeout=TIMEOUT, clock=time.monotonic, random=random.random)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The Sentinels: those of the URL, then those that they have named."""
        return self._places["now"]

    @property
    def shown(self) -> str:
        """What events and messages call it."""
        seeds = ",".join(_place(address) for address in self._set.sentinels)
        return f"the Sentinels {seeds}"

    @property
    def replicas(self) -> Mapping[str, tuple[Address, ...]]:
        """By the name of a master, where its replicas are; none if none are to be read from."""
        return self._replicas

    def follow(self, refresh: Callable[[], object]) -> None:
        """Have ``refresh`` called, in another thread, when a master may have moved.

        ``refresh``: a method, which is held weakly. It must neither block nor raise.
        """
        method = weakref.WeakMethod(refresh)
        sentinels, places, clock = self._set, self._places, self._clock
        options = replace(self._options, protocol=2)

        def tell() -> None:
            found = method()
            if found is not None:
                found()

        self._listener = SentinelListener(
            lambda: places["now"],
            lambda address: sentinel_dialer(address, sentinels, options, clock),
            tell,
            timeout=self._timeout,
            hook=options.on_event,
            clock=clock,
            random=self._random,
        )

    def close(self) -> None:
        """End the thread of the listener, if there is one."""
        if self._listener is not None:
            self._listener.close()

    def __call__(self) -> list[ParsedURL]:
        """Return a node for each master; raise `DiscoveryFailed`."""
        if self._listener is not None:
            self._listener.check()
        answers, errors = self._ask()
        if not answers:
            raise DiscoveryFailed(self.shown, "; ".join(errors))
        number = len(self._asked)
        self._learn(answers)
        return [
            self._set.node(
                master,
                *mapped(
                    self._options.address_map, *self._settle(master.name, answers, number, errors)
                ),
            )
            for master in self._set.masters
        ]

    def _ask(self) -> tuple[dict[Address, Answer], list[str]]:
        """Return the answers of those that answer, and why the others do not."""
        until = self._clock() + self._timeout
        # It does not refer to the source, which nobody need have any more while one hangs.
        masters = tuple(master.name for master in self._set.masters)
        question = partial(_ask, masters, until, replicas=self._reads_replicas)
        asking = {sentinel: sentinel.begin(question, until) for sentinel in self._asked}

        def left() -> float:
            # The others get a moment when a majority has answered, or all who did the last time.
            number = sum(map(has_answered, asking.values()))
            majority = number * 2 > len(asking)
            out = all(one.silent for one, future in asking.items() if not future.done())
            if majority and out:
                return 0.0
            return self._grace if majority or (number and out) else inf

        wait_for_answers(asking.values(), until, self._clock, left)
        # Who has not answered by now is not waited for so long the next time.
        answers, errors = {}, []
        for sentinel, future in asking.items():
            error = sentinel.failure(future)
            if error is None:
                answers[sentinel.address] = future.result()
            else:
                login = _LOGIN if isinstance(error, AuthenticationFailed) else ""
                errors.append(sentinel.why(error) + login)
        return answers, errors

    def _learn(self, answers: dict[Address, Answer]) -> None:
        """Ask those that these Sentinels name from now on too, each of them once.

        Most seeds are named as well, often by another address; their ids tell which these are.
        """
        seeds = self._set.sentinels
        found: dict[str, tuple[str, int]] = {}
        for address, answer in answers.items():
            if address not in seeds:
                found[answer.id or str(address)] = (address.host, address.port)
            for other in sorted(answer.others):
                place = mapped(self._options.address_map, other.host, other.port)
                found.setdefault(other.id or str(place), place)
        known = {answers[seed].id for seed in seeds if seed in answers}
        places = {(seed.host, seed.port) for seed in seeds}
        learned = dict.fromkeys(
            self._set.sentinel(*place)
            for name, place in found.items()
            if name not in known and place not in places
        )
        self._know([*learned][: max(_MOST - len(seeds), 0)])

    def _know(self, learned: Iterable[Address]) -> None:
        """Ask the seeds and ``learned`` from now on; those that are known already stay."""
        old = {one.address: one for one in self._asked}
        self._asked = tuple(
            old.get(address)
            or AskedServer(
                sentinel_dialer(address, self._set, self._options, self._clock),
                self._options.on_event,
            )
            for address in (*self._set.sentinels, *learned)
        )
        self._places["now"] = tuple(one.address for one in self._asked)

    def _settle(
        self, name: str, answers: dict[Address, Answer], asked: int, errors: list[str]
    ) -> tuple[str, int]:
        """Return the address of a master; keep the word, and tell if it is an old one."""
        # Of one Sentinel that was asked under two addresses one word counts.
        said = {
            answer.id or str(address): answer.words[name]
            for address, answer in answers.items()
            if name in answer.words
        }
        word = verdict(said.values(), self._last.get(name), asked)
        if word is None:
            word = self._keep(name, set(said.values()), errors)
        elif name in self._unsure:
            self._unsure.discard(name)
            emit(self._options.on_event, Event("discovery_back", name))
        if self._reads_replicas and word is not self._last.get(name):
            self._replicas[name] = self._read_from(name, word, answers)
        self._last[name] = word
        return word.host, word.port

    def _read_from(
        self, name: str, word: Word, answers: dict[Address, Answer]
    ) -> tuple[Address, ...]:
        """Return the addresses of those replicas of a master that count."""
        one_of_each = {answer.id or str(address): answer for address, answer in answers.items()}
        return tuple(
            self._set.data_server(*mapped(self._options.address_map, *place))
            for place in replicas(name, word, one_of_each.values())
        )

    def _keep(self, name: str, said: set[Word], errors: list[str]) -> Word:
        """Return the last good word on a master of which none counts now; raise if there is none.

        An event tells of it, once.
        """
        places = sorted({f"{one.host}:{one.port}" for one in said})
        if not said:
            why = f"no Sentinel that answers knows a master {name!r} (masters=… in the URL)"
        elif len(places) > 1:
            why = f"the Sentinels disagree about {name!r}: {', '.join(places)}"
        else:
            why = f"the Sentinels that answer are behind about {name!r}: they say {places[0]}"
        failed = DiscoveryFailed(self.shown, "; ".join((why, *errors)))
        last = self._last.get(name)
        if last is None:
            raise failed
        if name not in self._unsure:
            self._unsure.add(name)
            emit(self._options.on_event, Event("discovery_failed", name, error=failed))
        return last


def _ask(
    masters: tuple[str, ...], deadline: float, connection: Connection, *, replicas: bool
) -> Answer:
    """Return what a Sentinel says of the masters, over a connection to it."""
    commands = questions(masters, replicas=replicas)
    number = len(commands)
    replies = connection.call_many(pack_all(commands), number, deadline, number)
    found = read_answer(masters, replies)
    if isinstance(found, str):
        raise DiscoveryFailed(connection.shard, words(found))
    return found
