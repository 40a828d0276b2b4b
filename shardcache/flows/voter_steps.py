"""The steps of locks and loads on a Redis Cluster: each goes where its slot is now.

Plans have slots for voters (`flows/lock/slot_voters.py`). Just before a step goes out, the shards
that have the slots by the newest map are put in their place, and the tag of each voter is put into
its keys. Voters that lie on one shard share a batch.

A voter that answers by a redirect has carried out nothing, and so it has not voted. If its slot has
moved (MOVED), it is asked again where the slot is now, once the others have answered without a
majority, and a new map is asked for. While the slot is under way (ASK, TRYAGAIN), the voter cannot
vote, as if it were out: most keys of a lock do not exist, and no server carries out a script over
keys of which some may be elsewhere.

What is about a key and goes to the shard of its slot (the claim and the fill of a load) is followed
as an exchange is (`redirection`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from shardcache.errors import ShardError, ShardOut
from shardcache.flows.cluster_links import ClusterLinks
from shardcache.flows.links import NodeLinks
from shardcache.flows.lock.slot_voters import slot_of_number, voter_key
from shardcache.flows.redirection import follow
from shardcache.flows.steps import Batch, Broadcast, Flow, Listen, Outcome, ServerRun
from shardcache.resp import Command, ErrorReply
from shardcache.topology.redirects import Redirect, redirect_of
from shardcache.topology.slot_tags import tag_of

__all__ = ("at_slots",)

T = TypeVar("T")
_HOPS = 3  # how often the voters are asked in one step


def at_slots(
    flow: Flow[T],
    links: ClusterLinks | NodeLinks,
    clock: Callable[[], float],
    random: Callable[[], float],
) -> Flow[T]:
    """Return a flow that runs another one, whose plans may have slots for voters.

    ``flow``: the flow.
    ``links``: the client's view of its nodes; if these are no cluster, the flow stays as it is.
    ``clock``: returns seconds.
    ``random``: returns a number from 0 to 1.
    """
    return flow if isinstance(links, NodeLinks) else _at_slots(flow, links, clock, random)


def _at_slots(
    flow: Flow[T],
    links: ClusterLinks,
    clock: Callable[[], float],
    random: Callable[[], float],
) -> Flow[T]:
    outcome: Any = None
    error: BaseException | None = None
    while True:
        try:
            step = flow.send(outcome) if error is None else flow.throw(error)
        except StopIteration as end:
            result: T = end.value
            return result
        outcome = error = None
        try:
            match step:
                case Broadcast():
                    yield from _broadcast(step, links, clock, random)
                case Listen(shard, command, timeout):
                    slot = slot_of_number(shard)
                    if slot is not None:
                        command = (command[0], voter_key(command[1], slot), *command[2:])
                    outcome = yield Listen(_shard(links, shard), command, timeout)
                case _:
                    outcome = yield step
        except GeneratorExit:
            flow.close()
            raise
        except BaseException as caught:  # noqa: BLE001 - the flow decides
            error = caught


def _broadcast(
    step: Broadcast, links: ClusterLinks, clock: Callable[[], float], random: Callable[[], float]
) -> Flow[None]:
    """Have a broadcast carried out by the shards of the slots that it names."""
    end = clock() + min(step.timeout, step.limit)
    going = {place: _shard(links, batch.shard) for place, batch in enumerate(step.batches)}
    redirected: dict[int, Outcome] = {}
    # Voters first: those whose slots have moved are asked again.
    for hop in range(_HOPS):
        asking = _Asking(step, going, links, redirected, last=hop == _HOPS - 1)
        # All of it together takes no longer than the step may take.
        left = end - clock() if hop else step.limit
        if left <= 0:
            break
        yield replace(asking.step, limit=left)
        if asking.enough:
            return
        if not asking.moved:
            break
        going = asking.moved
    # Then what is about a key, on the shard of its own slot.
    if not redirected or step.on_reply is None:
        return
    batches = [step.batches[place] for place in redirected]
    outcomes = yield from follow(
        batches, [*redirected.values()], links, step.timeout, lambda: end - clock(), random
    )
    for place, outcome in zip(redirected, outcomes, strict=True):
        if step.on_reply(place, outcome, None):
            return


class _Asking:
    """Voters that are asked at once. Those that lie on one shard share a batch.

    So a release stays behind the request that it undoes.

    ``asked``: the step of the flow.
    ``going``: the shard of each batch, by its place in that step.
    ``redirected``: gets the outcomes of batches for shards that are to be followed.
    ``last``: whether a voter that has moved is not asked again.
    ``step``: the step to be carried out.
    ``moved``: the voters that are to be asked elsewhere.
    ``enough``: whether the flow knows enough.
    """

    __slots__ = (
        "_asked",
        "_going",
        "_last",
        "_links",
        "_places",
        "_redirected",
        "enough",
        "moved",
        "step",
    )

    def __init__(
        self,
        asked: Broadcast,
        going: Mapping[int, int],
        links: ClusterLinks,
        redirected: dict[int, Outcome],
        *,
        last: bool,
    ) -> None:
        self._asked = asked
        self._going = going
        self._links = links
        self._redirected = redirected
        self._last = last
        self.enough = asked.on_reply is None
        self.moved: dict[int, int] = {}
        groups: dict[int, list[int]] = {}
        for place, shard in going.items():
            groups.setdefault(shard, []).append(place)
        self._places = list(groups.values())
        batches = [
            _batch(shard, [asked.batches[place] for place in places])
            for shard, places in groups.items()
        ]
        on_reply = None if asked.on_reply is None else self._hand_on
        self.step = Broadcast(batches, on_reply, asked.timeout)

    def _hand_on(self, at: int, outcome: Outcome, run: ServerRun | None) -> bool:
        """Give each voter's part of an outcome to the flow; return whether it knows enough."""
        begin = 0
        for place in self._places[at]:
            size = len(self._asked.batches[place].commands)
            own = outcome if isinstance(outcome, ShardError) else outcome[begin : begin + size]
            begin += size
            self._tell(place, own, run)
        return self.enough

    def _tell(self, place: int, outcome: Outcome, run: ServerRun | None) -> None:
        on_reply = self._asked.on_reply
        if self.enough or on_reply is None:
            return
        if not isinstance(outcome, ShardError):
            found = list(map(_redirect, outcome))
            if any(found):
                if slot_of_number(self._asked.batches[place].shard) is None:
                    self._redirected[place] = outcome
                    return
                if self._asks_again(place, found):
                    return
                outcome = [
                    reply if one is None else _elsewhere(reply, one)
                    for reply, one in zip(outcome, found, strict=True)
                ]
        self.enough = on_reply(place, outcome, run)

    def _asks_again(self, place: int, found: Sequence[Redirect | None]) -> bool:
        """Whether a voter is to be asked elsewhere, which is noted then."""
        to = found[0]
        if to is None or not all(one and one.kind == "moved" for one in found):
            # A slot that is under way (ASK, TRYAGAIN) is so in the newest map too.
            if any(one is not None and one.code not in ("ASK", "TRYAGAIN") for one in found):
                self._links.refresh()
            return False
        shard = self._links.shard_at(to.host, to.port, self._going[place])
        slot = slot_of_number(self._asked.batches[place].shard)
        if slot is not None:
            self._links.moved(b"{%b}" % tag_of(slot), shard)
        if self._last:
            return False
        self.moved[place] = shard
        return True


def _shard(links: ClusterLinks, number: int) -> int:
    """Return the number of the shard that a batch is for now."""
    slot = slot_of_number(number)
    return number if slot is None else links.owner_of(b"{%b}" % tag_of(slot))


def _batch(shard: int, batches: Sequence[Batch]) -> Batch:
    """Return one batch for all voters on a shard."""
    commands = [
        command if slot is None else _with_keys_of(command, slot)
        for one in batches
        for slot in [slot_of_number(one.shard)]
        for command in one.commands
    ]
    return Batch(
        shard,
        commands,
        all(one.idempotent for one in batches),
        compensates=any(one.compensates for one in batches),
        after_pending=any(one.after_pending for one in batches),
    )


def _with_keys_of(command: Command, slot: int) -> Command:
    """Return a script's call with the keys of the voter of a slot."""
    verb, script, count, *rest = command
    keys = int(count)
    return (verb, script, count, *(voter_key(key, slot) for key in rest[:keys]), *rest[keys:])


def _redirect(reply: object) -> Redirect | None:
    cause = reply.__cause__ if isinstance(reply, ShardError) else None
    return redirect_of(cause) if isinstance(cause, ErrorReply) else None


def _elsewhere(reply: ShardError, found: Redirect) -> ShardOut:
    """Return the reply of a voter whose slot is not where it was asked."""
    return ShardOut(reply.shard, f"does not serve the slot of this voter now ({found.code})")
