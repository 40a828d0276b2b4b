"""Threads, and waiting between threads without a lock that could be held for ever."""
