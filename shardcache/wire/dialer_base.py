"""What the dialers of both colours share: where a shard is, which may change while it is used."""

import weakref

from shardcache.options import Options
from shardcache.urls import Address
from shardcache.wire.host_name import NameUser
from shardcache.wire.server_kind import ServerKind
from shardcache.wire.target import Target

__all__ = ("DialerBase",)


class DialerBase:
    """Knows where new connections to one shard go.

    ``kind``: what its server must be.
    """

    __slots__ = ("_kind", "_target", "_user", "options", "shard")

    def __init__(
        self, shard: str, address: Address, options: Options, kind: ServerKind = "standalone"
    ) -> None:
        self.shard = shard
        self.options = options
        self._kind = kind
        self._target = Target(shard, address, options)
        self._user: weakref.ref[NameUser] | None = None

    @property
    def address(self) -> Address:
        """Where new connections go."""
        return self._target.address

    def move(self, address: Address) -> None:
        """Open connections to another address from now on. One that is being opened goes on."""
        user = None if self._user is None else self._user()
        if user is not None:
            self._target.unwatch(user)
        self._target = Target(self.shard, address, self.options)
        if user is not None:
            self._target.watch(user)

    def watch(self, user: NameUser) -> None:
        """Tell ``user``, which is held weakly, of look-ups of the host name."""
        self._user = weakref.ref(user)
        self._target.watch(user)

    def refresh(self) -> None:
        """Look the host name up anew, in the background."""
        self._target.refresh()
