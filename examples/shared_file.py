"""Several processes rewrite one file in turn; one that slept for too long cannot spoil it.

Run it: ``python shared_file.py``. Four processes append to one ledger, which means: read it, add a
line with the new total, replace the file. Without a lock, lines get lost. With one, none does, as
long as nobody sleeps longer than the lock lasts: so every read and every replacement shows its
fencing token, and `FencedFile` refuses a process that comes too late. At the end one process is
made to oversleep, to see that happen.

The servers are local ones here; in production, ``nodes`` are the URLs of yours.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from shardcache import QuorumLock
from shardcache.embedded import LocalShards
from shardcache.errors import StaleToken
from shardcache.fencing import FencedFile

PROCESSES = 4
LINES = 10  # that each process adds
Nodes = Mapping[str, str]


def append(ledger: FencedFile, token: int, who: str) -> None:
    """Add a line whose total is one more than the last: only right if no process comes between."""
    # To read with the token keeps older holders out from here on, not only from the next write on.
    text = (ledger.read(token) or b"").decode()
    total = int(text.splitlines()[-1].split()[0]) if text else 0
    ledger.write(f"{text}{total + 1} by {who}\n".encode(), token)


def work(nodes: Nodes, path: Path, who: str) -> None:
    """Add this process' lines, each under the lock."""
    ledger = FencedFile(path)
    lock = QuorumLock("ledger", ttl=10, nodes=nodes, label=who)
    for _ in range(LINES):
        with lock:
            append(ledger, lock.fencing_token, who)
    lock.close()


def oversleep(nodes: Nodes, path: Path) -> str:
    """Hold the lock, sleep until it has ended and another has written, and write all the same."""
    ledger = FencedFile(path)
    sleeper = QuorumLock("ledger", ttl=0.5, nodes=nodes)
    other = QuorumLock("ledger", ttl=10, nodes=nodes)
    sleeper.acquire()
    while sleeper.held:
        time.sleep(0.05)
    with other:
        append(ledger, other.fencing_token, "the other")
    try:
        append(ledger, sleeper.fencing_token, "the sleeper")
    except StaleToken as error:
        return str(error)
    finally:
        sleeper.close()
        other.close()
    return "written, though it came too late"


def main() -> None:
    """Let the processes write, then count."""
    with LocalShards(3) as servers, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.txt"
        context = multiprocessing.get_context("spawn")
        crew = [
            context.Process(target=work, args=(servers.urls, path, f"process-{number}"))
            for number in range(PROCESSES)
        ]
        for process in crew:
            process.start()
        for process in crew:
            process.join()
        totals = [int(line.split()[0]) for line in path.read_text(encoding="ascii").splitlines()]
        complete = totals == list(range(1, PROCESSES * LINES + 1))
        print(
            f"{len(totals)} lines by {PROCESSES} processes, {'none' if complete else 'some'} lost"
        )
        print(f"the sleeper: {oversleep(servers.urls, path)}")
        print(f"the last line: {path.read_text(encoding='ascii').splitlines()[-1]}")


if __name__ == "__main__":
    main()
