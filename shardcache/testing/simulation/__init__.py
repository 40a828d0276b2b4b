"""The quorum lock in a simulated fleet: the real flows, in virtual time, under faults."""

from shardcache.testing.simulation.history import History, play, replay
from shardcache.testing.simulation.scenario import OUTSIDE, Scenario, draw

__all__ = ("OUTSIDE", "History", "Scenario", "draw", "play", "replay")
