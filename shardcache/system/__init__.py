"""Threads, waiting between them without a lock that could be held for ever, and forked children."""
