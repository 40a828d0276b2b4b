"""``python -m shardcache`` is the command ``shardcache``."""

try:
    import sys

    from shardcache.cli import program
except KeyboardInterrupt:
    raise SystemExit(130) from None

if __name__ == "__main__":  # the demo's worker processes import this module too
    sys.exit(program())
