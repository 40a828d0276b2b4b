"""The status page as HTML: one stylesheet, no script, nothing from elsewhere."""

from base64 import b64encode
from hashlib import sha256
from html import escape

from shardcache.cli.text import key_text
from shardcache.contrib.status.report import KeyPlace, ShardRow, StatusReport
from shardcache.results import HotKey

__all__ = ("POLICY", "page_of")

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --warn: #9a6700; --bad: #cf222e; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --warn: #d29922; --bad: #ff7b72; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 1.5rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.faint { opacity: .7; } .good { color: var(--good); } .warn { color: var(--warn); }
.bad { color: var(--bad); }
dl { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1rem 0; }
dl div { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem 1rem; }
dt { font-size: .8rem; opacity: .7; }
dd { margin: 0; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .4rem .75rem; border-bottom: 1px solid var(--line); }
tbody th, td.good, td.warn { white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
input, button { font: inherit; padding: .25rem .5rem; } code { overflow-wrap: anywhere; }
"""
_DIGEST = b64encode(sha256(_STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Shards</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>Shards</h1>
<p class="faint">As process {process} sees them. Other workers have figures of their own.</p>
</header>
<main>
{error}
<dl>
{tiles}
</dl>
<div class="scroll">
<table>
<thead><tr><th>Shard</th><th>Breaker</th><th>Answer now</th>{heads}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
{hot_keys}
<h2>Where does a key live?</h2>
<form method="get">
<label>Key <input name="key" value="{key}"></label>
<button>Look</button>
</form>
{place}
</main>
</body>
</html>
"""
_TONES = {"in service": "good", "on trial": "warn", "out": "bad"}


def page_of(report: StatusReport) -> str:
    """Return the page. All that comes from outside is escaped."""
    error = (
        "" if report.error is None else f'<p class="bad" role="alert">{escape(report.error)}</p>'
    )
    looked_for = report.key
    return _PAGE.format(
        style=_STYLE,
        process=report.process,
        error=error,
        tiles=_tiles(report),
        heads=_HEADS,
        rows="".join(map(_row, report.shards)),
        hot_keys="" if report.hot_keys is None else _hot_keys(report.hot_keys),
        key=escape(looked_for.key) if looked_for else "",
        place=_place(looked_for) if looked_for else "",
    )


def _tiles(report: StatusReport) -> str:
    stats = report.stats
    rate = "none yet" if report.hit_rate is None else f"{report.hit_rate:.1%}"
    tiles: tuple[tuple[str, str], ...] = (
        ("Shards that answer", f"{report.answering} of {len(report.shards)}"),
        ("Hit rate", rate),
        ("Hits", f"{stats.hits:,}"),
        ("Misses", f"{stats.misses:,}"),
        ("Reads degraded", f"{stats.degraded_reads:,}"),
        ("Writes dropped", f"{stats.dropped_writes:,}"),
        ("Loads", f"{stats.loading.loads:,}"),
        ("Errors", f"{stats.errors:,}"),
    )
    if stats.near is not None:
        near = stats.near
        tiles += (
            ("Hits in memory", f"{near.hits:,}"),
            ("Values in memory", f"{near.items:,}"),
            ("Told of writes", f"{near.invalidations:,}"),
        )
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in tiles)


_NUMBERS = {
    "Connects": "connects",
    "Failures": "failures",
    "Timeouts": "timeouts",
    "Ejected": "ejections",
    "Not sent": "refused_open",
}
_HEADS = "".join(f'<th class="number">{head}</th>' for head in _NUMBERS)


def _row(row: ShardRow) -> str:
    numbers = "".join(
        f'<td class="number">{getattr(row.counters, name):,}</td>' for name in _NUMBERS.values()
    )
    return (
        f"<tr><th>{escape(row.name)}</th>"
        f'<td class="{_TONES[row.service]}">{row.service}</td>{_answer(row)}{numbers}</tr>'
    )


def _answer(row: ShardRow) -> str:
    if row.ping is None:
        return '<td class="faint">not asked</td>'
    if row.ping.seconds is None:
        return f'<td class="bad">none: {escape(row.ping.error or "")}</td>'
    return f'<td class="good">{row.ping.seconds * 1000:.1f} ms</td>'


_HOT = """<h2>What this process reads most</h2>
<div class="scroll">
<table>
<thead><tr><th>Key</th><th>Shard</th><th class="number">Reads a second</th>\
<th class="number">Share</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>"""


def _hot_keys(keys: tuple[HotKey, ...]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(key_text(one.key))}</code></td><td>{escape(one.shard)}</td>"
        f'<td class="number">{one.rate:,.1f}</td><td class="number">{one.share:.1%}</td></tr>'
        for one in keys
    )
    return _HOT.format(rows=rows)


def _place(key: KeyPlace) -> str:
    if key.place is None:
        return f'<p class="bad">{escape(key.error or "")}</p>'
    owner = escape(key.place.shard or "no shard")
    return f"<p><strong>{owner}</strong></p><p><code>{escape(str(key.place))}</code></p>"
