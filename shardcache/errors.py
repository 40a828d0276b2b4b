"""Every error that the library raises, as one tree.

::

    ShardCacheError
    ├── InvalidArgument (ValueError)    refused before anything was sent
    │   ├── InvalidKey                  empty, too long, or neither str nor bytes
    │   ├── InvalidTTL                  not seconds, not a timedelta, not finite
    │   ├── InvalidNode                 a name or weight that no ring can place
    │   ├── InvalidURL                  an address that cannot be understood
    │   └── InvalidOption               an option outside what it allows
    ├── SerializationError (ValueError) a value that could not come back the same
    │   └── DamagedPayload              stored bytes that do not decode
    ├── KeyMissing (ValueError)         incr or decr of a key that is not there
    ├── ClientClosed                    a call on a client after close()
    ├── ServerNotStarted                a local server did not come up
    └── ShardError                      concerns one shard: ``.shard`` names it
        ├── ShardUnavailable            refused, cut off, or not ready to serve
        │   ├── ShardTimeout            no answer before the deadline
        │   ├── ShardOut                its breaker is open: nothing was sent
        │   └── OutOfStep               replies did not match requests; connection closed
        ├── CommandRefused              the server answered with an error: ``.code``
        │   ├── WrongType               the key holds another kind of value
        │   └── OutOfMemory             the server takes no writes now
        ├── AuthenticationFailed        the server does not accept the credentials
        └── WrongTopology               a replica or a cluster member among ring nodes

No name shadows a builtin. An error that concerns a shard carries its name and,
as ``__cause__``, what went wrong underneath. All of them can be pickled.
"""

__all__ = (
    "AuthenticationFailed",
    "ClientClosed",
    "CommandRefused",
    "DamagedPayload",
    "InvalidArgument",
    "InvalidKey",
    "InvalidNode",
    "InvalidOption",
    "InvalidTTL",
    "InvalidURL",
    "KeyMissing",
    "OutOfMemory",
    "OutOfStep",
    "SerializationError",
    "ServerNotStarted",
    "ShardCacheError",
    "ShardError",
    "ShardOut",
    "ShardTimeout",
    "ShardUnavailable",
    "WrongTopology",
    "WrongType",
)


class ShardCacheError(Exception):
    """The root: ``except ShardCacheError`` catches all that the library raises."""


class InvalidArgument(ShardCacheError, ValueError):
    """An argument was wrong. The message says what was wrong, what is allowed, what came."""


class InvalidKey(InvalidArgument):
    """A key is empty, longer than 64 KiB, not UTF-8 encodable, or of another type than str or bytes."""


class InvalidTTL(InvalidArgument):
    """A ttl is not a number of seconds, a timedelta or None, or is out of range."""


class InvalidNode(InvalidArgument):
    """A node's name or weight cannot be placed, or two nodes share a name."""


class InvalidURL(InvalidArgument):
    """A server's address cannot be understood. Credentials never appear in the message."""


class InvalidOption(InvalidArgument):
    """An option has a value that it does not allow."""


class SerializationError(ShardCacheError, ValueError):
    """A value would not come back equal and of the same type, so it was not written."""


class DamagedPayload(SerializationError):
    """Stored bytes carry the library's header but do not decode (or fail their signature)."""


class KeyMissing(ShardCacheError, ValueError):
    """``incr`` or ``decr`` of an absent key, and no ``initial`` was given."""


class ClientClosed(ShardCacheError):
    """The client was closed before this call."""


class ServerNotStarted(ShardCacheError):
    """A local server binary is missing, or its process did not come up."""


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
    """The shard cannot be reached or does not serve now. Under "degrade" this is a miss or a False."""


class ShardTimeout(ShardUnavailable):
    """The shard did not answer before the call's deadline."""


class ShardOut(ShardUnavailable):
    """The shard's breaker is open, so the call did not touch it."""


class OutOfStep(ShardUnavailable):
    """The stream broke the protocol or held more than was asked for. The connection was closed (G1)."""


class CommandRefused(ShardError):
    """The server answered with an error reply; ``code`` is its first word, such as ``NOPERM``."""

    @property
    def code(self) -> str:
        return self.reason.split(" ", 1)[0]


class WrongType(CommandRefused):
    """The key holds a value that this command does not work on."""


class OutOfMemory(CommandRefused):
    """The server is at its memory limit and refuses writes."""


class AuthenticationFailed(ShardError):
    """The server refused the user name or password, or asks for one."""


class WrongTopology(ShardError):
    """The server is a replica, a cluster member or a sentinel: no place for it on a ring."""
