"""What the two example sites share: shards in the parent process of the workers, and a front page.

``serve`` starts local shards and then a web server, whose workers find the shards by
SHARDCACHE_URL. The page has a button that kills a shard. A worker does not own the shards, so it
leaves a note in a directory, and the parent process carries it out.
"""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

from shardcache.embedded import LocalShards

HERE = Path(__file__).parent
PRODUCTS = [f"product:{number}" for number in range(1, 13)]
ACTIONS = ("kill", "start")
_NOTES = "SITE_NOTES"  # the environment variable that names the directory of the notes
_STYLE = """
:root { color-scheme: light dark; } body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem;
margin: 2rem auto; padding: 0 1rem; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .75rem; border-bottom: 1px solid #8884; }
form { display: inline; } button { font: inherit; }
"""


def serve(command: list[str], shards: int = 4) -> int:
    """Run a web server beside local shards until it ends, or Ctrl-C; return the exit code."""
    # An end by SIGTERM is as orderly as one by Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with LocalShards(shards) as servers, tempfile.TemporaryDirectory() as notes:
        environment = {**os.environ, "SHARDCACHE_URL": servers.url, _NOTES: notes}
        with subprocess.Popen(command, cwd=HERE, env=environment) as server:
            try:
                while server.poll() is None:
                    carry_out(servers, Path(notes))
                    time.sleep(0.1)
            except KeyboardInterrupt:
                server.terminate()
                return 0
            return server.returncode


def carry_out(servers: LocalShards, notes: Path) -> None:
    """Kill or start the shards that the workers named."""
    for server in servers.servers:
        for action in ACTIONS:
            note = notes / f"{action} {server.name}"
            if note.exists():
                note.unlink()
                getattr(server, action)()


def leave_note(action: str, shard: str, shards: Iterable[str]) -> bool:
    """Have the parent process kill or start a shard; say False to what it could not."""
    notes = os.environ.get(_NOTES)
    if notes is None or action not in ACTIONS or shard not in shards:
        return False
    Path(notes, f"{action} {shard}").touch()
    return True


def look_up(product: str) -> str:
    """Compute what is cached: the slow part."""
    time.sleep(0.01)
    return f"{product.replace(':', ' ').capitalize()}, {len(product) * 100} cents"


def front_page(
    texts: Mapping[str, str],
    hits: Iterable[str],
    homes: Mapping[str, str],
    service: Mapping[str, str],
    hidden: str = "",
) -> str:
    """Return the page.

    ``texts``: what to show of each product.
    ``hits``: the products that the cache had.
    ``homes``: the shard of each product.
    ``service``: the state of each shard's breaker in words.
    ``hidden``: HTML that every form contains.
    """
    found = frozenset(hits)
    products = "".join(
        f"<tr><td>{escape(text)}</td><td>{escape(homes[key])}</td>"
        f"<td>{'hit' if key in found else 'computed'}</td></tr>"
        for key, text in texts.items()
    )
    shards = "".join(
        f"<tr><th>{escape(name)}</th><td>{state}</td><td>"
        + "".join(
            f'<form method="post" action="/{action}/{escape(name)}">{hidden}'
            f"<button>{action}</button></form> "
            for action in ACTIONS
        )
        + "</td></tr>"
        for name, state in service.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>A shop on shards</title>
<style>{_STYLE}</style></head><body>
<h1>A shop on {len(service)} shards</h1>
<p>Answered by process {os.getpid()}. <a href="/">Again</a> · <a href="/shards/">Status page</a></p>
<table><tr><th>Product</th><th>Its shard</th><th>From the cache?</th></tr>{products}</table>
<h2>Shards</h2>
<table><tr><th>Shard</th><th>Breaker</th><th>Do</th></tr>{shards}</table>
</body></html>
"""
