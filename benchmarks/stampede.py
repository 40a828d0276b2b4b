"""How often one value is computed for many readers: cold, over expiries, while shards die.

Alone, with its own options and a plot: ``python benchmarks/stampede.py [--plot FILE]``; and as a
subject of ``python benchmarks``.

Many processes with many threads (or tasks) each read one key again and again, with a short ttl and
a loader that takes a while. Every run of the loader is noted on a server that nobody harms, with
its beginning, its end, and what its process knew: whether a quorum stood behind it, and whether the
key's own shard was out. Loads are then sorted into rounds: what begins less than half a ttl after
the round's first load ended belongs to it, so a round with more than one load had loads to spare.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import redis

sys.path.insert(0, str(Path(__file__).parent))

import loads
from caches import KEY, PEERS
from crowd import Setting, worker

from shardcache import ShardCache
from shardcache.bench.figure import Figure
from shardcache.bench.race import Race, Spread
from shardcache.embedded import LocalShards

OURS = ("shardcache, threads", "shardcache, tasks")


@dataclass(frozen=True)
class Load:
    """One run of the loader; times are seconds on the machine's monotonic clock.

    ``why``: lock, alone, or shard out (the key's own shard is out of service).
    """

    start: float
    end: float
    process: int
    why: str


@dataclass
class Outcome:
    """What came of one stampede."""

    name: str
    loads: list[Load]
    reads: int
    errors: Counter[str]
    began: float
    not_stored: int
    outages: list[tuple[float, float, str]] = field(default_factory=list)  # killed, up again, name

    def rounds(self, ttl: float) -> list[list[Load]]:
        """Return the loads by expiry; the first round is the cold one."""
        found: list[list[Load]] = []
        for load in self.loads:
            if found and load.start < found[-1][0].end + ttl / 2:
                found[-1].append(load)
            else:
                found.append([load])
        return found


def stampede(name: str, setting: Setting, seconds: float, *, chaos: bool = False) -> Outcome:
    """Let all readers read for ``seconds``.

    With ``chaos`` one shard after the other is killed and restarted meanwhile.
    """
    fork = multiprocessing.get_context("fork")
    with LocalShards(setting.shards, tcp=True) as servers, LocalShards(1, tcp=True) as log:
        (log_url,) = log.urls.values()
        with redis.Redis.from_url(log_url) as notes:
            gate = fork.Barrier(setting.processes)
            workers = [
                fork.Process(
                    target=worker,
                    args=(name, number, setting, servers.urls, log_url, seconds, gate),
                )
                for number in range(setting.processes)
            ]
            for one in workers:
                one.start()
            outages = []
            while (begin := notes.get("begin")) is None:
                time.sleep(0.01)
                if any(one.exitcode for one in workers):
                    for one in workers:
                        one.kill()
                    raise RuntimeError(f"{name}: a worker has died before it began")
            if chaos:
                outages = break_shards(servers, float(begin) + 1, float(begin) + seconds - 1)
            for one in workers:
                one.join(seconds + 60)
                one.kill()
            done = [json.loads(row) for row in notes.lrange("done", 0, -1)]
            if len(done) < setting.processes:
                raise RuntimeError(
                    f"{name}: {setting.processes - len(done)} workers have not come to their end"
                )
            loads = sorted(
                (Load(*json.loads(row)) for row in notes.lrange("loads", 0, -1)),
                key=lambda one: one.start,
            )
    errors = sum((Counter(row[1]) for row in done), Counter())
    return Outcome(
        name,
        loads,
        sum(row[0] for row in done),
        errors,
        float(begin),
        sum(row[2] for row in done),
        outages,
    )


def break_shards(servers: LocalShards, start: float, end: float) -> list[tuple[float, float, str]]:
    """Kill a minority of one server at a time.

    It stays dead for half a second and is started; the next is killed when all clients are back.
    """
    outages = []
    at = 0
    time.sleep(max(start - time.monotonic(), 0))
    while time.monotonic() < end - 1:
        server = servers.servers[at % len(servers.servers)]
        killed = time.monotonic()
        server.kill()
        time.sleep(0.5)
        server.start()
        outages.append((killed, time.monotonic(), server.name))
        time.sleep(2)
        at += 1
    return outages


def explained(
    outcome: Outcome, setting: Setting, own_shard: str
) -> tuple[Counter[str], list[Load]]:
    """Return how many loads there were of each kind, and those for which there is no reason."""
    kinds: Counter[str] = Counter()
    spare: list[Load] = []
    last: Load | None = None
    for load in outcome.loads:
        if load.why != "lock":
            kinds[load.why] += 1
        elif last is None or load.start >= last.end + setting.ttl / 2:
            kinds["expired"] += 1
        elif any(
            name == own_shard and last.start <= up and killed <= load.end
            for killed, up, name in outcome.outages
        ):
            kinds["value lost with its shard"] += 1
        elif last.why != "lock":
            kinds["after one that could not be stored"] += 1
        else:
            kinds["unexplained"] += 1
            spare.append(load)
        last = load
    return kinds, spare


def counts(outcome: Outcome, setting: Setting, goal: float | None) -> Iterator[Figure]:
    """Return loads when cold, and the most for one expiry."""
    rounds = outcome.rounds(setting.ttl)
    cold, *warm = (len(one) for one in rounds)
    said = f"{outcome.reads} reads"
    if outcome.errors:
        said += f", {outcome.errors.total()} errors ({outcome.errors.most_common(1)[0][0]})"
    yield Figure(f"{outcome.name}: loads, cold", Spread.of([cold]), goal, "", said)
    if warm:
        mean = sum(warm) / len(warm)
        said = (
            f"{len(warm)} expiries, mean {mean:.2f}, "
            f"{sum(one > 1 for one in warm)} with more than one"
        )
        if goal is not None:
            # A load that took so long, or a reader that came so late, is the machine's doing; one
            # not stored is ours.
            seconds = [
                f"{(second.start - first.end) * 1000:.0f} ms behind one of "
                f"{(first.end - first.start) * 1000:.0f} ms"
                for first, second, *_ in (one for one in rounds[1:] if len(one) > 1)
            ]
            said += f" ({'; '.join(seconds)})" if seconds else ""
            said += f", {outcome.not_stored} not stored"
        yield Figure(
            f"{outcome.name}: most loads for one expiry", Spread.of([max(warm)]), goal, "", said
        )


def crowds(setting: Setting, peers: Sequence[str], keep: list[Outcome]) -> Iterator[Figure]:
    """Run the stampedes; what came of each is kept for the plot."""
    for name in (*OURS, *peers):
        expiries = setting.expiries if name in OURS else setting.peer_expiries
        try:
            outcome = stampede(name, setting, (setting.ttl + setting.load) * (expiries + 0.5))
        except RuntimeError as error:
            print(error, file=sys.stderr)
            continue
        keep.append(outcome)
        yield from counts(outcome, setting, 1 if name in OURS else None)
    if not setting.chaos:
        return
    with ShardCache(
        {f"shard-{number}": "redis://127.0.0.1:1" for number in range(1, setting.shards + 1)}
    ) as cache:
        own_shard = cache.explain(KEY).shard
    for name in OURS:
        outcome = stampede(name, setting, setting.chaos, chaos=True)
        outcome.name = f"{name}, shards dying"
        keep.append(outcome)
        kinds, spare = explained(outcome, setting, own_shard)
        said = ", ".join(f"{kind} {number}" for kind, number in kinds.most_common())
        said += (
            f"; {len(outcome.outages)} kills, {outcome.reads} reads, "
            f"{outcome.errors.total()} errors"
        )
        said += f", {outcome.not_stored} not stored"
        yield Figure(
            f"{outcome.name}: loads without a reason", Spread.of([len(spare)]), 0, "", said
        )


def figures(_: Race) -> Iterator[Figure]:
    """Run a small stampede; `python benchmarks/stampede.py` runs the large one."""
    small = Setting(processes=8, readers=8, pace=0.1, expiries=5, peer_expiries=3, chaos=8)
    yield from crowds(small, PEERS, [])


def plot(outcomes: Sequence[Outcome], setting: Setting, path: str) -> None:
    """Draw the loads of each over time, one row for each; shards that are down are shaded."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, rows = plt.subplots(
        len(outcomes), 1, figsize=(11, 1.1 * len(outcomes) + 1), sharex=True, squeeze=False
    )
    for (axis,), outcome in zip(rows, outcomes, strict=True):
        bins = Counter(
            round((load.start - outcome.began) / (setting.ttl / 4)) for load in outcome.loads
        )
        axis.bar(
            [at * setting.ttl / 4 for at in bins],
            list(bins.values()),
            width=setting.ttl / 5,
            color="tab:red",
            log=True,
        )
        for killed, up, _ in outcome.outages:
            axis.axvspan(killed - outcome.began, up - outcome.began, color="0.85")
        axis.set_ylim(0.5, 3000)
        axis.set_ylabel("loads", fontsize=7)
        axis.tick_params(labelsize=7)
        axis.set_title(
            f"{outcome.name}: {len(outcome.loads)} loads, {outcome.reads} reads",
            fontsize=8,
            loc="left",
        )
    rows[-1][0].set_xlabel(
        f"seconds; {setting.crowd} readers of one key, ttl {setting.ttl:g} s", fontsize=8
    )
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    usual = Setting()
    parser.add_argument(
        "--processes", type=int, default=usual.processes, help="(default: %(default)s)"
    )
    parser.add_argument(
        "--readers", type=int, default=usual.readers, help="per process (default: %(default)s)"
    )
    parser.add_argument(
        "--shards", type=int, default=usual.shards, choices=(3, 4, 5), help="(default: %(default)s)"
    )
    parser.add_argument(
        "--expiries", type=int, default=usual.expiries, help="of ours (default: %(default)s)"
    )
    parser.add_argument(
        "--peer-expiries", type=int, default=usual.peer_expiries, help="(default: %(default)s)"
    )
    parser.add_argument(
        "--chaos", type=float, default=usual.chaos, help="seconds; 0: none (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=51, help="of the races of single calls; 0: none"
    )
    parser.add_argument("--no-peers", action="store_true", help="only ours")
    parser.add_argument("--plot", metavar="FILE", help="draw the loads over time as PNG")
    said = parser.parse_args()
    setting = Setting(
        said.processes,
        said.readers,
        said.shards,
        expiries=said.expiries,
        peer_expiries=said.peer_expiries,
        chaos=said.chaos,
    )
    kept: list[Outcome] = []
    print(
        f"{setting.crowd} readers, {setting.shards} shards, ttl "
        f"{setting.ttl:g} s, a load of {setting.load:g} s"
    )
    if said.rounds:
        for figure in loads.figures(Race(said.rounds)):
            print(figure, flush=True)
    for figure in crowds(setting, () if said.no_peers else PEERS, kept):
        print(figure, flush=True)
    if said.plot:
        plot(kept, setting, said.plot)


if __name__ == "__main__":
    main()
