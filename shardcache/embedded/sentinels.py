"""Local masters with replicas, watched by local Sentinels."""

import os
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from urllib.parse import quote

from shardcache.embedded.login import check_password, config_of, quoted, url_login
from shardcache.embedded.sentinel_view import SentinelView, disagreement
from shardcache.embedded.server import LocalServer
from shardcache.embedded.server_connection import Command, ServerConnection
from shardcache.embedded.server_group import ServerGroup, check_count
from shardcache.errors import InvalidOption, ShardError, ShardUnavailable

__all__ = ("LocalSentinels",)

MAX_MASTERS = 16
MAX_REPLICAS = 3
MAX_SENTINELS = 9
LOOK = 2.0  # seconds that a server has for its answers when all may not be at rest
FAILOVER = 3.0  # seconds that Sentinels give a failover, and after which it is asked for anew
# What ``options`` may override: a replica waits for the first snapshot of its master, which would
# wait for more replicas.
DEFAULTS = {"repl-diskless-sync-delay": "0"}
# Milliseconds. Sentinels ask, and tell each other, every one to ten seconds; and after a stop of
# two seconds, which is nothing unusual on a busy machine, they do nothing for thirty.
PERIODS = (
    *("PING-PERIOD", 250, "INFO-PERIOD", 250, "PUBLISH-PERIOD", 250, "ASK-PERIOD", 250),
    *("MIN-LINK-RECONNECT-PERIOD", 250, "TILT-TRIGGER", 30_000),
)
# What the servers' sentinel.conf allows.
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,50}\Z")


class LocalSentinels(ServerGroup):
    """Local masters with replicas, and Sentinels that watch them, as a context manager.

    ``masters``: the names of the masters, 1 to 16; default ``("a", "b", "c")``.
    ``replicas``: how many replicas each has, 0 to 3; default 1.
    ``sentinels``: how many Sentinels, 1 to 9; default 3. A majority of them decides.
    ``password``: the password of masters and replicas, without spaces, quotation marks and
        backslashes; None (default) for none.
    ``sentinel_password``: the password of the Sentinels, likewise; None (default) for none.
    ``down_after``: seconds of silence after which a Sentinel holds a server for down, from 0.1;
        default 1.
    ``directory``: where to make a directory for the files of the servers; nothing is written
        elsewhere. None (default) for the system's temporary directory.
    ``options``: further lines of valkey.conf for masters and replicas; None (default) for none.
    ``binary``: the path of the server program; None (default) for that of `find_server`.
    ``timeout``: seconds that the start may take; default 30.

    The servers of the master ``a`` are named ``a-1``, ``a-2``, and so on, the first of which is the
    master at the start; the Sentinels ``sentinel-1``, ``sentinel-2``, and so on. A server that is
    killed and started again keeps its configuration, and is empty.

    Servers and directory end as those of `LocalShards` do, also with this process. A forked child
    can use the servers, and never ends them.

    Raises `InvalidOption` for a wrong argument. `start` raises `ServerNotStarted`.
    """

    def __init__(
        self,
        masters: Iterable[str] = ("a", "b", "c"),
        *,
        replicas: int = 1,
        sentinels: int = 3,
        password: str | None = None,
        sentinel_password: str | None = None,
        down_after: float = 1.0,
        directory: str | os.PathLike[str] | None = None,
        options: Mapping[str, str] | None = None,
        binary: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        super().__init__(directory=directory, options=options, binary=binary, timeout=timeout)
        self._names = _names(masters)
        self._replica_count = check_count("replicas", replicas, 0, MAX_REPLICAS)
        self._sentinel_count = check_count("sentinels", sentinels, 1, MAX_SENTINELS)
        self._password = check_password(password, plain=True)
        self._sentinel_password = check_password(sentinel_password, plain=True)
        if not isinstance(down_after, int | float) or not 0.1 <= down_after <= 3600:
            raise InvalidOption(
                f"down_after must be seconds from 0.1 to 3600, got {down_after!r:.80}"
            )
        self._down_after = down_after
        self._members: dict[str, tuple[LocalServer, ...]] = {}
        self._sentinels: tuple[LocalServer, ...] = ()

    @property
    def sentinels(self) -> tuple[LocalServer, ...]:
        """The Sentinels; none before `start` and after `close`."""
        return self._sentinels if self._servers else ()

    @property
    def members(self) -> dict[str, tuple[LocalServer, ...]]:
        """The servers behind each name, whatever their role is."""
        return dict(self._members) if self._servers else {}

    @property
    def urls(self) -> dict[str, str]:
        """The URL of each server by its name, with its password, for a client of one server."""
        return {
            server.name: f"redis://{url_login(self._password_of(server))}127.0.0.1:{server.port}/0"
            for server in self._servers
        }

    @property
    def url(self) -> str:
        """All Sentinels and the names of the masters as one URL, with the passwords."""
        if not self._servers:
            return ""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self._sentinels)
        login = url_login(self._password)
        url = f"redis+sentinel://{login}{hosts}?masters={','.join(self._names)}"
        if self._sentinel_password is not None:
            url += f"&sentinel_password={quote(self._sentinel_password, safe='')}"
        return url

    def master(self, name: str) -> LocalServer:
        """Return the server that the first Sentinel that answers has as the master.

        ``name``: the name of the master.

        Raises `InvalidOption` for an unknown name, `ShardUnavailable` if no Sentinel answers.
        """
        if name not in self._names:
            raise InvalidOption(f"there are the masters {', '.join(self._names)}, not {name!r:.80}")
        missing: ShardError | None = None
        for sentinel in self._answering_sentinels():
            try:
                with self._connect(sentinel) as connection:
                    _, port = connection.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
            except ShardUnavailable as error:
                missing = error
            else:
                return next(one for one in self._members[name] if one.port == int(port))
        raise missing or ShardUnavailable("sentinels", "no Sentinel runs")

    def replicas(self, name: str) -> tuple[LocalServer, ...]:
        """Return the other servers behind a name, whether they run or not.

        ``name``: the name of the master.
        """
        master = self.master(name)
        return tuple(server for server in self._members[name] if server is not master)

    def fail_over(self, name: str, *, timeout: float = 60.0) -> LocalServer:
        """Have the Sentinels make another server the master, and return it when all agree.

        The master may be up. Without this, they do so by themselves soon after it is killed.

        ``name``: the name of the master.
        ``timeout``: seconds to wait; default 60.

        Raises `ServerNotStarted` if it takes longer.
        """
        deadline = time.monotonic() + timeout
        before = self.master(name)
        asked = -2 * FAILOVER

        def not_yet() -> str | None:
            nonlocal asked
            if self.master(name) is not before:
                return None
            if time.monotonic() - asked > 2 * FAILOVER:
                with self._connect(self._answering_sentinels()[0]) as connection:
                    connection.ask("SENTINEL", "FAILOVER", name)
                asked = time.monotonic()
            return f"{before.name} is still the master"

        self._until(not_yet, deadline)
        self.wait_until_ok(timeout=deadline - time.monotonic())
        return self.master(name)

    def wait_until_ok(self, *, timeout: float = 60.0) -> None:
        """Wait until all that run and are not paused are at rest.

        That is: the Sentinels know each other, agree on the master of each name, which serves, and
        see all its replicas; and these have what it had when this began.

        ``timeout``: seconds to wait; default 60.

        Raises `ServerNotStarted`, which says what was missing last, if it takes longer.
        """
        for sentinel in self._answering_sentinels():
            # Servers from before 7.0 have no such command; there it takes longer.
            with suppress(ShardError), self._connect(sentinel) as connection:
                connection.ask("SENTINEL", "DEBUG", *PERIODS)
        offsets: dict[int, int] = {}
        self._until(lambda: self._unrest(offsets), time.monotonic() + timeout)

    def _start(self, deadline: float) -> None:
        # The masters come first, since replicas must know their addresses, and Sentinels all.
        masters = {name: self._data_server(name, 1, None) for name in self._names}
        self._launch(tuple(masters.values()), deadline)
        replicas = {
            name: tuple(
                self._data_server(name, number + 2, master) for number in range(self._replica_count)
            )
            for name, master in masters.items()
        }
        self._launch(tuple(one for some in replicas.values() for one in some), deadline)
        self._members = {name: (masters[name], *replicas[name]) for name in self._names}
        self._start_sentinels(deadline)
        self.wait_until_ok(timeout=deadline - time.monotonic())

    def _data_server(self, name: str, number: int, master: LocalServer | None) -> LocalServer:
        options = {**DEFAULTS, **config_of(self._password), **self._options}
        if master is not None:
            options["replicaof"] = f"127.0.0.1 {master.port}"
        return self._server(f"{name}-{number}", options, tcp=True, keep_config=True)

    def _start_sentinels(self, deadline: float) -> None:
        """Start the Sentinels; each finds the others by the masters, as in production."""
        options = {}
        if self._sentinel_password is not None:
            options["requirepass"] = quoted(self._sentinel_password)
        self._sentinels = tuple(
            self._server(
                f"sentinel-{number + 1}",
                options,
                tcp=True,
                sentinel=self._sentinel_lines(),
                keep_config=True,
            )
            for number in range(self._sentinel_count)
        )
        self._launch(self._sentinels, deadline)

    def _sentinel_lines(self) -> list[str]:
        lines = [f"sentinel myid {secrets.token_hex(20)}"]
        if self._sentinel_password is not None:
            lines.append(f"sentinel sentinel-pass {quoted(self._sentinel_password)}")
        for name, (master, *replicas) in self._members.items():
            lines += [
                f"sentinel monitor {name} 127.0.0.1 {master.port} {self._sentinel_count // 2 + 1}",
                f"sentinel down-after-milliseconds {name} {int(self._down_after * 1000)}",
                f"sentinel failover-timeout {name} {int(FAILOVER * 1000)}",
            ]
            lines += [f"sentinel known-replica {name} 127.0.0.1 {one.port}" for one in replicas]
            if self._password is not None:
                lines.append(f"sentinel auth-pass {name} {quoted(self._password)}")
        return lines

    def _password_of(self, server: LocalServer) -> str | None:
        return self._sentinel_password if server in self._sentinels else self._password

    def _connect(self, server: LocalServer) -> ServerConnection:
        return ServerConnection(server, self._password_of(server), timeout=LOOK)

    def _answering_sentinels(self) -> list[LocalServer]:
        return [server for server in self._answering() if server in self._sentinels]

    def _unrest(self, offsets: dict[int, int]) -> str | None:
        """Say what is missing for all to be at rest.

        ``offsets``: how far each master was in its stream when it was first asked, by its port.
        """
        answering = self._answering()
        views: dict[str, SentinelView] = {}
        for sentinel in self._answering_sentinels():
            with self._connect(sentinel) as connection:
                views[sentinel.name] = SentinelView(
                    sentinel.port, {name: connection.ask_all(_asked(name)) for name in self._names}
                )
        for name, servers in self._members.items():
            roles = {}
            for server in servers:
                if server in answering:
                    with self._connect(server) as connection:
                        roles[server.port] = connection.fields("INFO", "replication")
            reason = disagreement(name, views, roles, offsets)
            if reason is not None:
                return reason
        return None


def _asked(name: str) -> list[Command]:
    return [("SENTINEL", word, name) for word in ("MASTER", "REPLICAS", "SENTINELS")]


def _names(masters: object) -> tuple[str, ...]:
    """Return the names of the masters.

    Raises `InvalidOption` if they are not one to sixteen different ones.
    """
    names = tuple(masters) if isinstance(masters, Iterable) and not isinstance(masters, str) else ()
    if not 1 <= len(names) <= MAX_MASTERS or len(set(names)) < len(names):
        raise InvalidOption(
            f"masters must be 1 to {MAX_MASTERS} different names, got {masters!r:.80}"
        )
    for name in names:
        if not isinstance(name, str) or not _NAME.match(name):
            raise InvalidOption(
                "the name of a master has 1 to 50 letters, digits and the signs - _ . in it, got "
                f"{name!r:.80}"
            )
    return names
