"""Decisions about failure, as state machines without clocks or threads of their own."""

from shardcache.policy.breaker import Breaker, State

__all__ = ("Breaker", "State")
