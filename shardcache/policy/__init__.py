"""Decisions about failure, age and loading: pure functions and machines without clocks."""

from shardcache.policy.breaker import Breaker, State
from shardcache.policy.freshness import Freshness
from shardcache.policy.load_policy import LoadPolicy

__all__ = ("Breaker", "Freshness", "LoadPolicy", "State")
