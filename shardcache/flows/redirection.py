"""Commands that a Redis Cluster carries out elsewhere, sent again until they are done.

It goes on from the outcomes of an exchange, and changes nothing else about it: the replies that
were right stay, and only commands that were *not carried out* are sent again. The whole has the
deadline of the call.

What came of a command                  what is done
--------------------------------------  ------------------------------------------------------------
MOVED                                   sent to that node; a new map is asked for
ASK                                     sent to that node, this once, behind an ASKING of its own
TRYAGAIN                                after a pause, sent to the owner of its slot
LOADING, CLUSTERDOWN, MASTERDOWN,       the same, and a new map is asked for
READONLY
a replica that was read from answers    sent to the primary, and a new map is asked for
by any error but WRONGTYPE, or not
no reply, the connection failed         the same, if it may be sent twice; else that is its outcome
the shard is out, or nobody serves the  a new map is asked for; sent to the owner of its slot if
slot                                    that is another shard by now; else that is its outcome
no reply in time, nonsense              that is its outcome
anything else                           that is its outcome

Of independent nodes only the rows about replicas hold: nobody else answers for a key.

The order of the commands of one slot in one batch is kept: a command is sent again when those
before it are done. A command that was carried out is not carried out again, except what may be sent
twice and stands behind one that *leads* it: a claim leads the read behind it, which must see what
was stored before; and the deletion of a fill token leads the write behind it, since a load that
began before must not be stored between the two.

While a slot migrates, its keys move one by one, and keys that do not exist are the new owner's. So

exchange or script                what it does meanwhile
--------------------------------  ------------------------------------------------------------------
one command of one key            is carried out where the key is: ASK
GET with PTTL, or TYPE            each is carried out where the key is; it may move in between, with
                                  its time left
MGET or UNLINK of several keys    is cut into commands of one key each: nobody answers the whole
UNLINK of the fill token, then    each is carried out where its key is. If the write was carried out
a write                           first, the token goes a round trip later. A fill in between, of a
                                  load that began before the write, needs value, token and lock on
                                  one node, and stores only if the value is the one that it read
                                  (`flows/load/scripts.py`). That may be so by chance, so the write
                                  is carried out once more behind the token.
a script with one key             as a command
a script with several keys        TRYAGAIN as long as they lie apart, or some do not exist: it is
                                  sent again until the slot has moved, or the time is over
SCAN, INFO, FLUSHDB               are about a node, and go nowhere else
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from shardcache.errors import (
    CommandRefused,
    DiscoveryFailed,
    OutOfStep,
    ShardError,
    ShardOut,
    ShardTimeout,
    ShardUnavailable,
    WrongType,
)
from shardcache.flows.cluster_links import ClusterLinks
from shardcache.flows.links import NodeLinks
from shardcache.flows.one_command import keys_of
from shardcache.flows.operations import TEXT
from shardcache.flows.reply_checks import may_answer
from shardcache.flows.steps import Batch, Flow, Outcome, Sleep, gather
from shardcache.keys import is_own
from shardcache.resp import Command, ErrorReply, Reply
from shardcache.topology.redirects import Redirect, redirect_of
from shardcache.topology.replica_numbers import is_replica
from shardcache.topology.slots import slot_of

__all__ = ("concerns", "follow")

_ASKING: Command = (b"ASKING",)
_DIVISIBLE = frozenset({b"MGET", b"UNLINK"})
_HOPS = 4  # redirects of one command in a row, before there is a pause
_FIRST, _LONGEST = 0.002, 0.1  # seconds of a pause: it grows, and a random part of it is taken


@dataclass(slots=True, eq=False)
class _Item:
    """One command on its way.

    ``shard``: where it goes next, or was sent.
    ``asking``: whether it goes behind an ASKING.
    ``twice``: whether it may be sent again when its reply was lost.
    ``reply``: what came of it, so far.
    ``hops``: how often it was redirected, since the last pause.
    ``waits``: whether it goes to the owner of its slot, after a pause.
    ``parts``: the commands that it was cut into.
    ``first``: the reply that counts, of a write that is carried out once more.
    """

    command: Command
    shard: int
    twice: bool
    asking: bool = False
    reply: Reply = None
    hops: int = 0
    waits: bool = False
    parts: "list[_Item]" = field(default_factory=list)
    first: Reply = None

    def result(self) -> Reply:
        """Return the reply, made of those of the parts if there are any."""
        if not self.parts:
            again = self.first is not None and not isinstance(self.reply, ShardError)
            return self.first if again else self.reply
        replies = [part.reply for part in self.parts]
        error = next((reply for reply in replies if isinstance(reply, ShardError)), None)
        if error is not None:
            return error
        if self.command[0] == b"MGET":
            return [value for reply in replies for value in reply]
        return sum(replies)


def concerns(outcomes: Iterable[Outcome]) -> bool:
    """Whether there is something to do: an error that may be about the place or the moment."""
    for outcome in outcomes:
        if isinstance(outcome, ShardError):
            return True
        if any(issubclass(kind, ShardError) for kind in set(map(type, outcome))):
            return True
    return False


def follow(
    batches: Sequence[Batch],
    outcomes: Sequence[Outcome],
    links: ClusterLinks | NodeLinks,
    timeout: float,
    left: Callable[[], float],
    random: Callable[[], float],
) -> Flow[list[Outcome]]:
    """Return the outcomes of batches after all has been sent where it belongs.

    ``batches``: what was sent.
    ``outcomes``: what came of it.
    ``links``: the client's view of its nodes.
    ``timeout``: seconds that a shard may take.
    ``left``: returns the seconds that are left of the call.
    ``random``: returns a number from 0 to 1.
    """
    # One chain for each slot of each batch: what is to be sent again, in order.
    made = [_items(batch, outcome) for batch, outcome in zip(batches, outcomes, strict=True)]
    found = [_rest(chain, links) for items in made for chain in _by_slot(items)]
    chains = [chain for chain in found if chain]
    links.sent_again([key for chain in chains for item in chain for key in keys_of(item.command)])
    pause = 0.0
    # Each round sends the head of each chain, as far as it goes to one place.
    while chains and left() > 0:
        waiting = [item for chain in chains for item in chain if item.waits]
        if waiting:
            pause = min(max(pause * 2, _FIRST), _LONGEST)
            seconds = pause * (0.5 + random() / 2)
            if seconds >= left():
                break
            yield Sleep(seconds)
            # By now there may be a newer map.
            for item in waiting:
                item.shard = links.owner_of(keys_of(item.command)[0])
                item.asking, item.hops, item.waits = False, 0, False
        heads = [_head(chain) for chain in chains]
        yield from _send(heads, timeout, left())
        found = [
            _rest(head, links) + chain[len(head) :]
            for chain, head in zip(chains, heads, strict=True)
        ]
        chains = [chain for chain in found if chain]
    return [_outcome(outcome, items) for outcome, items in zip(outcomes, made, strict=True)]


def _items(batch: Batch, outcome: Outcome) -> list[_Item]:
    replies = [outcome] * len(batch.commands) if isinstance(outcome, ShardError) else outcome
    return [
        _Item(command, batch.shard, batch.idempotent, reply=reply)
        for command, reply in zip(batch.commands, replies, strict=True)
    ]


def _by_slot(items: Iterable[_Item]) -> Iterable[list[_Item]]:
    """Return the commands of each slot; those without a key are left out."""
    found: dict[int, list[_Item]] = {}
    for item in items:
        keys = keys_of(item.command)
        if keys:
            found.setdefault(slot_of(keys[0]), []).append(item)
    return found.values()


def _rest(chain: Sequence[_Item], links: ClusterLinks | NodeLinks) -> list[_Item]:
    """Return those of some commands that are to be sent again, in order."""
    rest: list[_Item] = []
    leader: Command | None = None
    for item in chain:
        if _is_over(item, links):
            if leader is not None and item.twice and not isinstance(item.reply, ShardError):
                if leader[0] == b"UNLINK" and item.first is None:
                    item.first = item.reply
                rest.append(item)
            continue
        if item.command[0] == b"EVAL" or _deletes_token(item.command):
            leader = item.command
        if item.parts:
            rest += item.parts
        else:
            rest.append(item)
    return rest


def _deletes_token(command: Command) -> bool:
    return command[0] == b"UNLINK" and is_own(command[1])


def _is_over(item: _Item, links: ClusterLinks | NodeLinks) -> bool:
    """Whether a command has its outcome; else it is noted where it goes."""
    error = item.reply
    if not isinstance(error, ShardError):
        return True
    if is_replica(item.shard):
        return _is_over_at_replica(item, error, links)
    return isinstance(links, NodeLinks) or _is_over_at_member(item, error, links)


def _is_over_at_member(item: _Item, error: ShardError, links: ClusterLinks) -> bool:
    """Whether an error of a member of a cluster is the outcome."""
    cause = error.__cause__
    if isinstance(cause, ErrorReply):
        found = redirect_of(cause)
        if found is not None:
            _redirect(item, found, links)
        return found is None
    if not isinstance(error, ShardUnavailable) or isinstance(error, OutOfStep):
        return True
    links.refresh()
    if isinstance(error, (ShardOut, DiscoveryFailed)):
        # It was not sent. There is a newer map by now, or there is nothing to hope for.
        former, item.shard = item.shard, links.owner_of(keys_of(item.command)[0])
        item.asking = False
        return item.shard == former
    item.waits = item.twice and not isinstance(error, ShardTimeout)
    return not item.waits


def _is_over_at_replica(item: _Item, error: ShardError, links: ClusterLinks | NodeLinks) -> bool:
    """Whether an error of a replica is the outcome; else the command goes to the primary."""
    if isinstance(error, WrongType):  # an answer as good as any other of a replica
        return True
    key = keys_of(item.command)[0]
    if _may_be_misplaced(error):
        links.failed_at(item.shard, key)
    item.shard = links.owner_of(key)
    return False


def _may_be_misplaced(error: ShardError) -> bool:
    """Whether an error of a replica may mean that the map is old."""
    cause = error.__cause__
    found = redirect_of(cause) if isinstance(cause, ErrorReply) else None
    if found is None:  # a refusal (NOPERM, say) is about this server, wherever the keys are
        return isinstance(error, ShardUnavailable)
    # A slot that is under way (Valkey's replicas say so) is so in the newest map too.
    return found.kind != "ask" and found.code != "TRYAGAIN"


def _redirect(item: _Item, found: Redirect, links: ClusterLinks) -> None:
    """Note where a command goes that was not carried out."""
    if found.kind in ("moved", "ask"):
        item.shard = links.shard_at(found.host, found.port, item.shard)
        item.asking = found.kind == "ask"
        item.hops += 1
        item.waits = item.hops > _HOPS
    keys = keys_of(item.command)
    verb = item.command[0]
    if len(keys) > 1 and verb in _DIVISIBLE and (found.kind == "ask" or found.code == "TRYAGAIN"):
        item.parts = [
            _Item((verb, key), item.shard, item.twice, item.asking, item.reply) for key in keys
        ]
    elif found.kind not in ("moved", "ask"):
        item.waits = True
    if found.kind == "moved":
        links.moved(keys[0], item.shard)
    elif found.kind != "ask" and found.code != "TRYAGAIN":
        links.refresh()


def _head(chain: list[_Item]) -> list[_Item]:
    """Return the commands of a chain that go to the same place as the first."""
    first = chain[0]
    for at, item in enumerate(chain):
        if (item.shard, item.asking) != (first.shard, first.asking):
            return chain[:at]
    return chain


def _send(heads: Iterable[list[_Item]], timeout: float, limit: float) -> Flow[None]:
    """Send some commands, each to its shard, and note what comes of them."""
    # One batch for each shard.
    by_shard: dict[int, list[_Item]] = {}
    for head in heads:
        by_shard.setdefault(head[0].shard, []).extend(head)
    batches = []
    for shard, items in by_shard.items():
        commands: list[Command] = []
        for item in items:
            commands += (_ASKING, item.command) if item.asking else (item.command,)
        idempotent = all(item.twice for item in items)
        batches.append(Batch(shard, commands, idempotent, _validator(commands)))
    asking, outcomes = gather(batches, timeout)
    yield replace(asking, limit=limit)
    # Give each command its own reply.
    for items, outcome in zip(by_shard.values(), outcomes, strict=True):
        if not isinstance(outcome, list):
            for item in items:
                item.reply = outcome
            continue
        replies = iter(outcome)
        for item in items:
            # Without the ASKING the command was refused too, most likely by another name.
            asked = next(replies) if item.asking else None
            reply = next(replies)
            item.reply = asked if isinstance(asked, ShardError) else reply


def _validator(commands: Sequence[Command]) -> Callable[[list[Reply]], bool]:
    def fit(replies: list[Reply]) -> bool:
        return all(
            reply.__class__ in TEXT if command is _ASKING else may_answer(command, reply)
            for command, reply in zip(commands, replies, strict=True)
        )

    return fit


def _outcome(outcome: Outcome, items: Sequence[_Item]) -> Outcome:
    """Return what came of a batch in the end."""
    replies = [_settled(item.result()) for item in items]
    # What failed as a whole, and has stayed so, is told as a whole.
    if isinstance(outcome, ShardError) and all(reply is outcome for reply in replies):
        return outcome
    return replies


def _settled(reply: Reply) -> Reply:
    """Return a reply; in the place of a redirect that could not be followed, what that means."""
    if not isinstance(reply, CommandRefused) or reply.code not in ("MOVED", "ASK"):
        return reply
    text = str(reply.__cause__)
    found = ShardUnavailable(
        reply.shard, f"was not the node of the key's slot, and time was too short for more ({text})"
    )
    found.__cause__ = reply.__cause__
    return found
