"""Pages of a Django site per second, by cache back end, and what visitors see when a shard fails.

``python benchmarks/web_pages.py [--seconds N] [--rounds N]``

Needs django, django-redis, gunicorn, and wrk (a Debian package). Four local Valkey servers; four
workers of gunicorn for each back end; wrk with 16 connections, on one back end after the other,
round by round. Django's own back end has one server, the others all four. Reported are medians of
the rounds, and the ratio to the better of the two others; then, for ours, with one server killed
and with one hung: answers with an error, and the 99th percentile of the time from one second after
that on.
"""

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple
from urllib.request import urlopen

from shardcache.embedded import LocalShards

BACKENDS = ("ours", "django", "django-redis")
PAGES = {"singles": 2_000, "many": 10_000}  # bytes of each, if all fragments are found
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


class Load(NamedTuple):
    """What wrk saw."""

    rate: float  # pages per second
    p99: float  # milliseconds
    errors: int  # answers with a status of 400 or more, and connections that broke


def load(port: int, page: str, seconds: float) -> Load:
    """Fetch a page over and over."""
    command = ("wrk", "--latency", "-t", "2", "-c", "16", "-d", f"{seconds:g}s")
    said = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/{page}"], capture_output=True, check=True, text=True
    ).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    late = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", said)
    assert rate is not None, said
    assert late is not None, said
    bad = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", said)))
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+)", said)
    bad += 0 if broken is None else sum(map(int, broken.groups()))
    return Load(float(rate[1]), float(late[1]) * UNITS[late[2]], bad)


@contextmanager
def site(backend: str, servers: LocalShards) -> Iterator[int]:
    """Run the site; give its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = (sys.executable, "-m", "gunicorn", "--workers", "4", "--log-level", "error")
    process = subprocess.Popen(
        [*command, "--bind", f"127.0.0.1:{port}", "web_site:application"],
        cwd=Path(__file__).parent,
        env={**os.environ, "CACHE": backend, "SERVERS": ",".join(servers.urls.values())},
    )
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/fill"):
                break
            time.sleep(0.05)
        for page, size in PAGES.items():
            with urlopen(f"http://127.0.0.1:{port}/{page}") as answer:
                found = len(answer.read())
                assert found == size, f"{backend} found {found} of the {size} bytes of {page}"
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def speed(ports: dict[str, int], rounds: int, seconds: float) -> None:
    """Say how many pages each back end gives."""
    for page in PAGES:
        seen: dict[str, list[float]] = {backend: [] for backend in ports}
        for _ in range(rounds):
            for backend, port in ports.items():
                seen[backend].append(load(port, page, seconds).rate)
        rates = {backend: median(each) for backend, each in seen.items()}
        others = max(rate for backend, rate in rates.items() if backend != "ours")
        print(
            f"{page:8}",
            *(f"{backend} {rate:.0f}/s" for backend, rate in rates.items()),
            f"ours to the better other {rates['ours'] / others:.2f}",
        )


def outages(servers: LocalShards, port: int, seconds: float) -> None:
    """Say what visitors see when a server is killed, and when one hangs."""
    victim = servers.servers[1]
    for page in PAGES:
        whole = load(port, page, seconds)
        print(f"{page:8} whole   p99 {whole.p99:.1f} ms, {whole.errors} errors")
        for name, begin, end in (
            ("killed", victim.kill, victim.restart),
            ("hung", victim.pause, victim.resume),
        ):
            begin()
            first = load(port, page, 1)
            later = load(port, page, seconds)
            end()
            time.sleep(3)  # until it is in use again
            print(
                f"{page:8} {name:7} p99 {later.p99:.1f} ms ({later.p99 / whole.p99:.2f} of whole),",
                f"{first.errors + later.errors} errors, {later.rate / whole.rate:.2f} of the pages",
            )


def main() -> None:
    parser = argparse.ArgumentParser(description="Pages per second of a Django site.")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with ExitStack() as stack:
        servers = stack.enter_context(LocalShards(4, tcp=True))
        ports = {name: stack.enter_context(site(name, servers)) for name in BACKENDS}
        speed(ports, chosen.rounds, chosen.seconds)
        outages(servers, ports["ours"], chosen.seconds)


if __name__ == "__main__":
    main()
