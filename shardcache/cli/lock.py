"""``lock``: run a command under a lock; see, and break, the locks that are held."""

import argparse
import json
import math
import sys
import time
from dataclasses import asdict
from typing import Any

from shardcache.cli.confirm import ask_to_confirm
from shardcache.cli.connect import open_client
from shardcache.cli.exit_codes import Exit
from shardcache.cli.parser import Commands, number, takes_url, whole
from shardcache.cli.text import columns, printable, say
from shardcache.client import ShardCache
from shardcache.flows.lock.planner import LONGEST_TTL
from shardcache.locks import Holder, QuorumLock
from shardcache.locks.list_locks import HeldLock, held_locks
from shardcache.locks.voter_nodes import change_voters, finish_change, voter_nodes

__all__ = ("add",)

RUN_CODES = (
    f"Exit codes: that of COMMAND (128 + n if signal n ended it). Else: {Exit.USAGE:d} wrong "
    f"usage; {Exit.NO_QUORUM:d} too few servers answer to grant the lock; {Exit.HELD:d} somebody "
    f"else holds it (--held-exit gives another); {Exit.LOST:d} the lock was lost, and COMMAND was "
    f"ended if it still ran; {Exit.CANNOT_RUN:d}, {Exit.NOT_FOUND:d} COMMAND cannot be run, is not "
    "there."
)
A_DAY = 24 * 3600


def add(commands: Commands) -> None:
    """Add the commands ``lock run``, ``ls``, ``show``, ``voters`` and ``break``."""
    lock = commands.add_parser(
        "lock",
        help="run a command under a quorum lock; list, show and break locks",
        description="Runs a command under a quorum lock that the shards vote on; lists, shows and "
        "breaks the locks that are held.",
        examples=("lock run nightly-report -- ./report.sh", "lock ls", "lock show nightly-report"),
    )
    actions = lock.add_subparsers(metavar="ACTION", required=True)
    _add_run(actions)

    # lock ls
    names = actions.add_parser(
        "ls",
        help="list the locks that are held in the namespace of the URL",
        description="Walks over all keys of all servers (SCAN). Exit code 3 if a server does not "
        "answer.",
        examples=("lock ls", "lock ls --json"),
    )
    names.add_argument("--json", action="store_true", help="print a JSON array")
    names.set_defaults(run=_ls)
    takes_url(names)

    # lock show
    show = actions.add_parser(
        "show",
        help="who holds a lock, since when, on which voters; exit code 1 if nobody does",
        description="Says who holds a lock, since when, how long still, and what each voter has. "
        "Exit code 1 if nobody does.",
        examples=("lock show nightly-report",),
    )
    _takes_lock(show)
    show.add_argument(
        "--json", action="store_true", help="print a JSON object, or null if nobody holds it"
    )
    show.set_defaults(run=_show)

    _add_voters(actions)

    # lock break
    free = actions.add_parser(
        "break",
        help="take a lock from whoever holds it",
        description="Takes a lock from whoever holds it. The holder goes on until it looks (with "
        "auto-renewal within a third of its ttl): what keeps it from doing harm meanwhile is its "
        "fencing token, where it is checked.",
        examples=("lock break nightly-report",),
    )
    _takes_lock(free)
    free.add_argument("--yes", action="store_true", help="do not ask")
    free.set_defaults(run=_break)


def _add_voters(actions: Commands) -> None:
    voters = actions.add_parser(
        "voters",
        help="which nodes vote on locks; let all nodes of the URL vote",
        description="Shows which nodes vote on the locks of the namespace. To change them: first "
        "give every client the new list of nodes, then run 'lock voters --change', and 'lock "
        "voters --finish' when no lock is held by the former voters any more. Locks go on being "
        "taken and held all the while. Exit code 3 if a node could not be told (any client will "
        "tell it).",
        examples=("lock voters", "lock voters --change", "lock voters --finish"),
    )
    step = voters.add_mutually_exclusive_group()
    step.add_argument("--change", action="store_true", help="let all nodes of the URL vote")
    step.add_argument(
        "--finish",
        action="store_true",
        help="forget the former voters; fails while a lock is held by them",
    )
    voters.add_argument("--json", action="store_true", help="print a JSON object")
    voters.set_defaults(run=_voters)
    takes_url(voters)


def _voters(args: argparse.Namespace) -> int:
    with open_client(args) as cache:
        step = change_voters if args.change else finish_change if args.finish else voter_nodes
        nodes = step(cache)
    if args.json:
        say(json.dumps(asdict(nodes)))
    else:
        say(
            f"{len(nodes.names)} nodes vote, version {nodes.version}: "
            f"{', '.join(map(printable, nodes.names))}"
        )
        if nodes.former:
            before = ", ".join(map(printable, nodes.former))
            say(
                f"being changed; before, it was {before}: run 'lock voters --finish' when no lock "
                "is held there"
            )
    for name in nodes.silent:
        print(f"shardcache: node {name!r} could not be told yet", file=sys.stderr)
    return Exit.UNAVAILABLE if nodes.silent else Exit.FINE


def _add_run(actions: Commands) -> None:
    run = actions.add_parser(
        "run",
        help="run a command while holding a lock, so that one of a fleet does",
        description="Runs COMMAND while holding the lock NAME, which is renewed all the while. Who "
        "does not get the lock skips: no output, and an exit code of its own. When the lock is "
        "lost, COMMAND and its process group get SIGTERM, then SIGKILL. COMMAND finds "
        "SHARDCACHE_FENCING_TOKEN and SHARDCACHE_LOCK_NAME in its environment, and gets SIGINT, "
        "SIGTERM, SIGHUP and SIGQUIT that are sent here.",
        examples=(
            "lock run nightly-report -- ./report.sh",
            "lock run import --ttl 60 --timeout 600 --label importer -- python import.py",
        ),
        notes=RUN_CODES,
    )
    # How long the lock is held, and waited for.
    run.add_argument(
        "--ttl",
        type=number(0.1, LONGEST_TTL),
        default=30.0,
        metavar="S",
        help="seconds after which the lock is free if this machine dies (default: 30)",
    )
    run.add_argument(
        "--timeout",
        type=number(0, 365 * A_DAY),
        default=0.0,
        metavar="S",
        help="seconds to wait for the lock (default: 0, skip if somebody holds it)",
    )
    run.add_argument(
        "--grace",
        type=number(0, A_DAY),
        default=5.0,
        metavar="S",
        help="seconds between SIGTERM and SIGKILL when the lock is lost (default: 5). If it cannot "
        "be renewed, SIGTERM comes so long before it ends, or a third of the ttl if that is less",
    )
    run.add_argument(
        "--at-least",
        type=number(0, LONGEST_TTL),
        default=0.0,
        metavar="S",
        help="keep the lock for so many seconds from the start, even if COMMAND is done sooner: a "
        "machine whose clock is late then does not run it again (default: 0)",
    )
    # What others see of the holder.
    run.add_argument(
        "--label", metavar="TEXT", help="who holds it, for 'lock ls' (default: host:pid:thread)"
    )
    # What happens if another holder has it.
    run.add_argument(
        "--verbose",
        action="store_true",
        help="say on standard error when the lock is held by somebody else",
    )
    run.add_argument(
        "--held-exit",
        type=whole(0, 255),
        default=int(Exit.HELD),
        metavar="CODE",
        help=f"exit code then ({Exit.HELD:d})",
    )
    _takes_lock(run)
    run.add_argument(
        "command", metavar="COMMAND", nargs="+", help="the command and its arguments, after --"
    )
    run.set_defaults(run=_run)


def _takes_lock(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument(
        "--voter",
        action="append",
        metavar="SHARD",
        help="a shard that votes, for locks that name their voters; may be repeated (default: five "
        "of those of `lock voters`)",
    )
    takes_url(parser)


def _run(args: argparse.Namespace) -> int:
    # Imported here: only this command needs signals and child processes.
    from shardcache.cli.lock_run import Guarded

    with open_client(args) as cache:
        lock = cache.lock(args.name, args.ttl, auto_renew=True, label=args.label, voters=args.voter)
        guarded = Guarded(lock, args.command, grace=args.grace, at_least=args.at_least)
        code = guarded.run(args.timeout)
    if code is None:
        if args.verbose:
            print(
                f"shardcache: lock {args.name!r} is held by somebody else: skipped", file=sys.stderr
            )
        return int(args.held_exit)
    return code


def _ls(args: argparse.Namespace) -> int:
    with open_client(args) as cache:
        locks, out = held_locks(cache)
    if args.json:
        say(json.dumps([_held(lock) for lock in locks], ensure_ascii=False))
    elif locks:
        rows = [("LOCK", "HOLDER", "SINCE", "LEFT", "VOTERS"), *map(_row, locks)]
        for line in columns(rows):
            say(line)
    for error in out:
        print(f"shardcache: {error}", file=sys.stderr)
    return Exit.UNAVAILABLE if out else Exit.FINE


def _row(lock: HeldLock) -> tuple[str, ...]:
    majority = "" if lock.held else " (no majority)"
    of = "?" if lock.of is None else str(lock.of)
    voters = f"{len(lock.voters)} of {of}{majority}: {', '.join(lock.voters)}"
    return (
        printable(lock.name),
        printable(lock.label),
        _clock(lock.since),
        _seconds(lock.remaining),
        voters,
    )


def _held(lock: HeldLock) -> dict[str, Any]:
    return {
        "name": lock.name,
        "holder": lock.label,
        "since": _finite(lock.since),
        "remaining": _finite(lock.remaining),
        "held": lock.held,
        "voters": {voter: _finite(left) for voter, left in lock.voters.items()},
        "of": lock.of,
    }


def _lock(cache: ShardCache, args: argparse.Namespace) -> QuorumLock:
    return cache.lock(args.name, voters=args.voter)


def _show(args: argparse.Namespace) -> int:
    with open_client(args) as cache:
        lock = _lock(cache, args)
        holder = lock.owner()
        if args.json:
            say(json.dumps(_holder(args.name, holder), ensure_ascii=False))
        elif holder is not None:
            _tell(args.name, holder, lock.voters)
    if holder is not None:
        return Exit.FINE
    if not args.json:
        print(f"shardcache: nobody holds lock {args.name!r}", file=sys.stderr)
    return Exit.NO


def _tell(name: str, holder: Holder, voters: tuple[str, ...]) -> None:
    say(f"lock {name!r} is held by {printable(holder.label)}")
    rows = [
        ("  since", _clock(holder.since)),
        ("  left", f"{_seconds(holder.remaining)}, unless renewed"),
        ("  fencing token", f"{holder.fence} at most"),
    ]
    for voter in voters:
        if voter in holder.out:
            rows.append((f"  {voter}", f"does not answer: {holder.out[voter].reason}"))
        elif voter in holder.voters:
            rows.append((f"  {voter}", f"has it for {_seconds(holder.voters[voter])}"))
        else:
            rows.append((f"  {voter}", "does not have it"))
    for line in columns(rows):
        say(line)


def _holder(name: str, holder: Holder | None) -> dict[str, Any] | None:
    if holder is None:
        return None
    return {
        "name": name,
        "holder": holder.label,
        "since": _finite(holder.since),
        "remaining": _finite(holder.remaining),
        "fence": holder.fence,
        "voters": {voter: _finite(left) for voter, left in holder.voters.items()},
        "out": {voter: error.reason for voter, error in holder.out.items()},
    }


def _break(args: argparse.Namespace) -> int:
    with open_client(args) as cache:
        lock = _lock(cache, args)
        if not args.yes:
            holder = lock.owner()
            if holder is not None:
                _tell(args.name, holder, lock.voters)
            ask_to_confirm("Break it?", "not broken")
        count = lock.force_release()
    if not count:
        print(f"shardcache: nobody holds lock {args.name!r}", file=sys.stderr)
        return Exit.NO
    say(f"lock {args.name!r} is free: it was on {count} of {len(lock.voters)} voters")
    return Exit.FINE


def _clock(since: float | None) -> str:
    """Return in local time since when a holder has the lock.

    ``since``: Unix seconds as the holder wrote them, so the number may be anything.
    """
    try:
        return (
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
            if since is not None
            else "unknown"
        )
    except (ValueError, OverflowError, OSError):
        return "unknown"


def _seconds(left: float) -> str:
    return f"{left:.1f} s" if math.isfinite(left) else "no end"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
