"""``python -m shardcache`` is the command ``shardcache``."""

import sys

from shardcache.cli import main

if __name__ == "__main__":  # the demo's worker processes import this module too
    sys.exit(main())
