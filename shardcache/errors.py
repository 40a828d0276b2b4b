"""Every error that the library raises, as one tree.

::

    ShardCacheError
    ├── InvalidArgument (ValueError)    refused before anything was sent
    │   ├── InvalidKey                  empty, too long, or neither str nor bytes
    │   ├── InvalidTTL                  not seconds, not a timedelta, not finite
    │   ├── InvalidNode                 a name or weight that no ring can place
    │   ├── InvalidURL                  an address that cannot be understood
    │   ├── InvalidToken                a fencing token that no lock gives out
    │   └── InvalidOption               an option outside what it allows
    ├── SerializationError (ValueError) a value that could not come back the same
    │   └── DamagedPayload              stored bytes that do not decode
    ├── KeyMissing (ValueError)         incr or decr of a key that is not there
    ├── ClientClosed                    a call on a client after close()
    ├── ServerNotStarted                a local server did not come up
    ├── ThreadNotStarted                the system had no thread for what needs one
    ├── LoadFailed                      the loader brought no value
    │   ├── LoadCycle                   a loader asked for the key that it loads
    │   ├── LoadTimeout                 it took longer than the policy's hard timeout
    │   ├── LoadCancelled               it was cancelled, and its caller was not
    │   ├── TooManyLoaders              so many hang or are at work that no other is begun
    │   ├── LoadWaitTimeout             another load took longer than the policy's wait
    │   └── NegativeHit                 it refused lately, and that is remembered
    ├── StaleToken                      a newer holder exists: ``.resource``, ``.token``, ``.seen``
    ├── FenceBusy (TimeoutError)        another process kept a fenced file to itself
    ├── LockError                       concerns a lock: ``.name``
    │   ├── LockNotAcquired             ``.votes`` say why
    │   │   ├── LockConflict            another holder has it: ``.retry_after``
    │   │   ├── LockCycle               the call would wait for its own thread
    │   │   └── QuorumUnavailable       too many voters are out
    │   ├── LockLost                    the lease ended before the holder was done
    │   └── LockNotHeld                 release or extend of a lock that is not held
    └── ShardError                      concerns one shard: ``.shard`` names it
        ├── ShardUnavailable            refused, cut off, or not ready to serve
        │   ├── ShardTimeout            no answer before the deadline
        │   ├── ShardOut                its breaker is open: nothing was sent
        │   │   └── DiscoveryFailed     no source has said yet which nodes there are
        │   ├── WritesRefused           the server takes no writes now, but serves reads
        │   └── OutOfStep               replies did not match requests; connection closed
        │       └── ReplyTooLarge       more than the command can answer; connection closed
        ├── CommandRefused              the server answered with an error: ``.code``
        │   ├── AccessDenied            an ACL does not let this user do it
        │   ├── WrongType               the key holds another kind of value
        │   └── OutOfMemory             the server takes no writes now
        ├── AuthenticationFailed        the server does not accept the credentials
        └── WrongTopology               a server of another kind or role than expected

No name shadows a builtin. An error that concerns a shard carries its name and,
as ``__cause__``, what went wrong underneath. All of them can be pickled.
"""

from collections.abc import Sequence
from typing import Any

from shardcache.votes import Vote

__all__ = (
    "AccessDenied",
    "AuthenticationFailed",
    "ClientClosed",
    "CommandRefused",
    "DamagedPayload",
    "DiscoveryFailed",
    "FenceBusy",
    "InvalidArgument",
    "InvalidKey",
    "InvalidNode",
    "InvalidOption",
    "InvalidTTL",
    "InvalidToken",
    "InvalidURL",
    "KeyMissing",
    "LoadCancelled",
    "LoadCycle",
    "LoadFailed",
    "LoadTimeout",
    "LoadWaitTimeout",
    "LockConflict",
    "LockCycle",
    "LockError",
    "LockLost",
    "LockNotAcquired",
    "LockNotHeld",
    "NegativeHit",
    "OutOfMemory",
    "OutOfStep",
    "QuorumUnavailable",
    "ReplyTooLarge",
    "SerializationError",
    "ServerNotStarted",
    "ShardCacheError",
    "ShardError",
    "ShardOut",
    "ShardTimeout",
    "ShardUnavailable",
    "StaleToken",
    "ThreadNotStarted",
    "TooManyLoaders",
    "WritesRefused",
    "WrongTopology",
    "WrongType",
)


class ShardCacheError(Exception):
    """The root: ``except ShardCacheError`` catches all that the library raises."""


class InvalidArgument(ShardCacheError, ValueError):
    """An argument was wrong. The message says what was wrong, what is allowed, what came."""


class InvalidKey(InvalidArgument):
    """A key is empty, longer than 64 KiB, not UTF-8 encodable, or neither str nor bytes."""


class InvalidTTL(InvalidArgument):
    """A ttl is not a number of seconds, a timedelta or None, or is out of range."""


class InvalidNode(InvalidArgument):
    """A node's name or weight cannot be placed, or two nodes share a name."""


class InvalidURL(InvalidArgument):
    """A server's address cannot be understood. Credentials never appear in the message."""


class InvalidOption(InvalidArgument):
    """An option has a value that it does not allow."""


class InvalidToken(InvalidArgument):
    """A fencing token is not a whole number from 1 to 2⁶³ - 1."""


class SerializationError(ShardCacheError, ValueError):
    """A value would not come back equal and of the same type, so it was not written.

    ``value`` is that value, also where a loader had returned it: what was loaded is not lost. It
    does not go along when the error is pickled.
    """

    value: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args


class DamagedPayload(SerializationError):
    """Stored bytes carry the library's header but do not decode (or fail their signature)."""


class KeyMissing(ShardCacheError, ValueError):
    """``incr`` or ``decr`` of an absent key without ``initial``. It names shard, method and key."""


class ClientClosed(ShardCacheError):
    """The client was closed before this call."""


class ServerNotStarted(ShardCacheError):
    """A local server binary is missing, or its process did not come up.

    Of a local cluster, or of local Sentinels: or they did not agree in time.
    """


class ThreadNotStarted(ShardCacheError):
    """The system had no thread for what needs one (a limit on processes, say).

    That is a loader with a hard timeout, or a lock with ``auto_renew``. Nothing was begun; all else
    (a prober, a refresh) does without a thread, and an event tells of it.
    """


class StaleToken(ShardCacheError):
    """A fencing token is older than one that ``resource`` has seen: the lock has a newer holder.

    ``token``: the one refused.
    ``seen``: the highest so far.

    Nothing was written.
    """

    def __init__(self, resource: str | bytes, token: int, seen: int) -> None:
        super().__init__(resource, token, seen)
        self.resource = resource
        self.token = token
        self.seen = seen

    def __str__(self) -> str:
        return (
            f"{self.resource!r} has seen token {self.seen}, so {self.token} is refused: "
            "the lock has a newer holder"
        )


class FenceBusy(ShardCacheError, TimeoutError):
    """Another process has been writing a fenced file for longer than this one may wait."""


class LockError(ShardCacheError):
    """Something about a lock; ``name`` is the lock's."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"lock {self.name!r}: {self.reason}"


class LockNotAcquired(LockError):
    """The lock could not be taken.

    ``votes``: the voters' answers to the last attempt, a `shardcache.votes.Vote` each.
    ``retry_after``: seconds until the lock may be free, or None.
    """

    def __init__(
        self, name: str, reason: str, votes: Sequence[Vote] = (), retry_after: float | None = None
    ) -> None:
        super().__init__(name, reason)
        self.args = (name, reason, votes, retry_after)
        self.votes = tuple(votes)
        self.retry_after = retry_after


class LockConflict(LockNotAcquired):
    """Another holder has the lock; if it is not renewed, it is free in ``retry_after`` seconds."""


class LockCycle(LockNotAcquired):
    """This thread is in the middle of taking or releasing the lock, so waiting would not end.

    It is raised in a finalizer or a signal handler that came in between, at a call that would wait.
    """

    @classmethod
    def of(cls, refused: LockNotAcquired) -> "LockCycle":
        """Return the error for a call that would wait.

        ``refused``: the refusal after which it would wait.
        """
        return cls(
            refused.name,
            "this thread is taking, keeping or releasing it in an outer call, "
            "which cannot go on before this call ends",
            refused.votes,
        )


class QuorumUnavailable(LockNotAcquired):
    """Fewer than a majority of the voters can vote; the message names the others, and why."""


class LockLost(LockError):
    """The lease ended while its holder was at work: there may be another holder by now."""


class LockNotHeld(LockError):
    """The lock is not held by the caller that releases, extends or hands it over."""


class LoadFailed(ShardCacheError):
    """A load brought no value. What a loader itself raises comes out as it is, not as this."""


class LoadTimeout(LoadFailed):
    """The loader, with the wait for its turn, took longer than ``LoadPolicy.hard_timeout``."""


class LoadCancelled(LoadFailed):
    """The loader ended by `asyncio.CancelledError`, though its call was not cancelled."""


class TooManyLoaders(LoadFailed):
    """No loader was begun, because too many of them hang or are at work.

    That is: ``Options.max_loads`` of them were given up after ``LoadPolicy.hard_timeout`` and have
    not ended; or as many are running, and none has ended for ``LoadPolicy.wait`` seconds (a second
    at least) or before the time of a `deadline` was over; or as many refreshes are at work in the
    background. The message names some of the keys.
    """


class LoadWaitTimeout(LoadFailed):
    """Another load of the value took longer than ``LoadPolicy.wait``; the policy says "raise"."""


class LoadCycle(LoadFailed):
    """The loader of a key asked for that key: it would wait for itself."""


class NegativeHit(LoadFailed):
    """The loader refused lately, in any process, and ``LoadPolicy.negative_ttl`` is not over.

    ``error_type``: the name of the error's type, with its module unless builtin.
    ``error_text``: what it said.
    """

    def __init__(self, error_type: str, error_text: str) -> None:
        super().__init__(error_type, error_text)
        self.error_type = error_type
        self.error_text = error_text

    def __str__(self) -> str:
        return f"the loader refused lately: {self.error_type}: {self.error_text}"


class ShardError(ShardCacheError):
    """Something went wrong with one shard.

    ``shard`` is its name on the ring; ``reason`` the sentence without the name.
    """

    def __init__(self, shard: str, reason: str) -> None:
        super().__init__(shard, reason)
        self.shard = shard
        self.reason = reason

    def __str__(self) -> str:
        return f"shard {self.shard!r}: {self.reason}"


class ShardUnavailable(ShardError):
    """The shard cannot be reached or does not serve now. Under "degrade": a miss or a False."""


class ShardTimeout(ShardUnavailable):
    """The shard did not answer before the call's deadline."""


class ShardOut(ShardUnavailable):
    """The shard's breaker is open, so the call did not touch it."""


class DiscoveryFailed(ShardOut):
    """A source did not say which nodes there are; ``shard`` is the name of the source.

    A call raises it (under "raise") only if the source has never answered. Later on, the last good
    answer stays in use, and this error comes in an event (``discovery_failed``). The reason has no
    text of an exception that is not the library's: that is the ``__cause__``.
    """

    def __str__(self) -> str:
        return f"no nodes from {self.shard}: {self.reason}"


class WritesRefused(ShardUnavailable):
    """The server takes no writes now, but serves reads, so it stays in service.

    Causes: a full disk, a read-only replica, too few replicas.
    """


class OutOfStep(ShardUnavailable):
    """The stream broke the protocol or held more than was asked. The connection was closed (G1)."""


class ReplyTooLarge(OutOfStep):
    """The reply was longer than any answer to the command. It was not read to its end.

    For example, a value was longer than ``Options.max_value``.
    """


class CommandRefused(ShardError):
    """The server answered with an error reply; ``code`` is its first word, such as ``NOPERM``.

    Where the call was about one key, the reason begins with the method and the key as the server
    has it, with its namespace.
    """

    def __init__(self, shard: str, reason: str, code: str = "") -> None:
        super().__init__(shard, reason)
        self.args = (shard, reason, code)
        self.code = code or reason.partition(" ")[0]


class AccessDenied(CommandRefused):
    """The server's ACL does not let this user run the command, or touch the key.

    The message names the pattern of the client's keys.
    """


class WrongType(CommandRefused):
    """The key holds a value that this command does not work on."""


class OutOfMemory(CommandRefused):
    """The server is at its memory limit and refuses writes."""


class AuthenticationFailed(ShardError):
    """The server refused the user name or password, or asks for one."""


class WrongTopology(ShardError):
    """The server is of another kind or role than expected.

    For example, it is a replica, a cluster member or a Sentinel where a ring takes a primary, or it
    is not in cluster mode where a member of a Redis Cluster is expected.
    """
