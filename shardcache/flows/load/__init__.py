"""Loading a missing value once: pure flows for every colour and for the simulator."""

from shardcache.flows.load.desk import LoadDesk
from shardcache.flows.load.job import Entry, Job
from shardcache.flows.load.load import load

__all__ = ("Entry", "Job", "LoadDesk", "load")
