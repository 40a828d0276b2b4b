"""A Redis Cluster of fakes that keep values, and say MOVED, ASK and the like as the test wants."""

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from typing import Any, Self

from shardcache.topology.slots import slot_of
from tests.hostile.cluster_member import SLOTS, FakeMember

_OF_A_KEY = (b"GET", b"EXISTS", b"SET", b"UNLINK")


class StoringMember(FakeMember):
    """A member of a `StoringCluster`."""

    def __init__(self, cluster: "StoringCluster", *ranges: tuple[int, int]) -> None:
        super().__init__(*ranges)
        self._cluster = cluster
        self._connection = threading.local()  # a connection has a thread of its own

    def _answer(self, command: tuple[bytes, ...]) -> Any:
        # ASKING is about the next command alone, whatever that is.
        asking = getattr(self._connection, "asking", False)
        self._connection.asking = command[0] == b"ASKING"
        if command[0] == b"ASKING":
            return "+OK"
        if command[0] == b"ECHO":
            return command[1]
        if command[0] not in _OF_A_KEY:
            return super()._answer(command)
        refusal = self._cluster.refusal(self, slot_of(command[1]), asking=asking)
        return f"-{refusal}" if refusal else self._carry_out(command)

    def _carry_out(self, command: tuple[bytes, ...]) -> Any:
        values, (verb, key, *rest) = self._cluster.values, command
        self._cluster.done[verb] += 1
        if verb == b"GET":
            return values.get(key)
        if verb == b"SET":
            values[key] = rest[0]
            return "+OK"
        there = key in values
        if verb == b"UNLINK":
            values.pop(key, None)
        return int(there)


class StoringCluster:
    """Three members that announce an even share of the slots each. A context manager.

    ``moved``: who has a slot, where it is not the member that announces it: that one says MOVED.
    ``asked``: who has the keys of a slot that migrates: its owner says ASK, and who has them says
        MOVED to commands without an ASKING.
    ``mood``: called for each command at the right member; what it returns is said in the place of
        an answer, unless it is empty.
    ``refusals``: how often what was said, by the first word.
    ``done``: how often which command about a key was carried out.
    """

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.moved: dict[int, StoringMember] = {}
        self.asked: dict[int, StoringMember] = {}
        self.mood: Callable[[], str] = str
        self.refusals: Counter[str] = Counter()
        self.done: Counter[bytes] = Counter()
        cuts = (0, SLOTS // 3, SLOTS * 2 // 3, SLOTS)
        self.members = [StoringMember(self, (first, last - 1)) for first, last in pairwise(cuts)]
        for one in self.members:
            one.others = [other for other in self.members if other is not one]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for member in self.members:
            self._stack.enter_context(member)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def owner(self, slot: int) -> StoringMember:
        """Return the member that announces a slot."""
        return next(one for one in self.members if one.ranges[0][0] <= slot <= one.ranges[0][1])

    def after(self, slot: int) -> StoringMember:
        """Return the member behind the one that announces a slot."""
        place = self.members.index(self.owner(slot))
        return self.members[(place + 1) % len(self.members)]

    def refusal(self, member: StoringMember, slot: int, *, asking: bool) -> str:
        """Return what a member says to a command that it does not carry out; else ""."""
        home = self.moved.get(slot) or self.owner(slot)
        guest = self.asked.get(slot)
        if member is guest and asking and guest is not home:
            said = self.mood()
        elif member is not home:
            said = f"MOVED {slot} {home.address.host}:{home.address.port}"
        elif guest is not None and guest is not home:
            said = f"ASK {slot} {guest.address.host}:{guest.address.port}"
        else:
            said = self.mood()
        if said:
            self.refusals[said.partition(" ")[0]] += 1
        return said
