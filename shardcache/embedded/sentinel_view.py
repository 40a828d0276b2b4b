"""What one Sentinel knows, parsed, and compared with what the others and the servers say."""

from collections.abc import Mapping, MutableMapping, Sequence

from shardcache.resp import Reply

__all__ = ("SentinelView", "disagreement")

Fields = Mapping[str, str]
_SILENT = frozenset({"s_down", "o_down", "disconnected"})


class SentinelView:
    """What one Sentinel knows about each master, its replicas and the other Sentinels.

    ``port``: the port of the Sentinel itself.
    ``replies``: of each master, its replies to SENTINEL MASTER, REPLICAS and SENTINELS.
    """

    def __init__(self, port: int, replies: Mapping[str, Sequence[Reply]]) -> None:
        self.port = port
        self.masters = {name: _fields(reply[0]) for name, reply in replies.items()}
        self.replicas = {name: _by_port(reply[1]) for name, reply in replies.items()}
        self.sentinels = {name: _by_port(reply[2]) for name, reply in replies.items()}


def _fields(reply: Reply) -> dict[str, str]:
    words = [word.decode() for word in reply]
    return dict(zip(words[::2], words[1::2], strict=True))


def _by_port(reply: Reply) -> dict[int, dict[str, str]]:
    return {int(one["port"]): one for one in map(_fields, reply)}


def disagreement(
    name: str,
    views: Mapping[str, SentinelView],
    roles: Mapping[int, Fields],
    offsets: MutableMapping[int, int],
) -> str | None:
    """Say why a master with its replicas and Sentinels has not come to rest; None if it has.

    ``name``: the name of the master.
    ``views``: what each Sentinel that should answer knows, by its name.
    ``roles``: what each server that should answer says of its replication, by its port.
    ``offsets``: how far a master was in its stream when it was first asked, by its port.

    Others (killed, paused) may be seen in any way.
    """
    if not views:
        return "no Sentinel runs"
    ports = {int(view.masters[name]["port"]) for view in views.values()}
    if len(ports) > 1:
        return f"the Sentinels do not agree on the master {name}"
    [port] = ports
    if port not in roles:
        return f"the master {name} does not answer"
    if roles[port].get("role") != "master":
        return f"the server at port {port} does not know yet that it is the master {name}"
    sentinels = {view.port for view in views.values()}
    for sentinel, view in views.items():
        reason = _unsettled(name, view, sentinels - {view.port}, set(roles) - {port}, port)
        if reason is not None:
            return f"{sentinel} {reason}"
    return _lag(name, port, roles, offsets)


def _unsettled(
    name: str, view: SentinelView, sentinels: set[int], replicas: set[int], master: int
) -> str | None:
    """Say what one Sentinel does not see as it is.

    A further flag of a server is something under way. A Sentinel keeps the flag that says what it
    thought of the last master.
    """
    if view.masters[name]["flags"] != "master":
        return f"sees the master {name} as {view.masters[name]['flags']}"
    for port in sentinels:
        flags = view.sentinels[name].get(port, {}).get("flags", "s_down")
        if not _SILENT.isdisjoint(flags.split(",")):
            return f"does not see the Sentinel at port {port}"
    for port in replicas:
        seen = view.replicas[name].get(port, {})
        if seen.get("flags") != "slave":
            return f"does not see the replica of {name} at port {port}"
        if seen.get("master-port") != str(master) or seen.get("master-link-status") != "ok":
            return f"does not see that the replica of {name} at port {port} has its master"
    return None


def _lag(
    name: str, master: int, roles: Mapping[int, Fields], offsets: MutableMapping[int, int]
) -> str | None:
    """Say which replica does not yet have what its master had."""
    offsets.setdefault(master, int(roles[master]["master_repl_offset"]))
    for port, said in roles.items():
        if port == master:
            continue
        if said.get("master_port") != str(master) or said.get("master_link_status") != "up":
            return f"the replica of {name} at port {port} has no link to its master"
        if int(said.get("slave_repl_offset", -1)) < offsets[master]:
            return f"the replica of {name} at port {port} lags behind"
    return None
