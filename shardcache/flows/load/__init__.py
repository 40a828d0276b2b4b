"""Loading a missing value once: pure flows for every colour and for the simulator."""

from shardcache.flows.load.chunks import LOOKED_AT_ONCE, SENT_AT_ONCE, parts
from shardcache.flows.load.desk import LoadDesk
from shardcache.flows.load.job import Job, Order
from shardcache.flows.load.load import load, load_anyway, reload
from shardcache.flows.load.look import look_many
from shardcache.flows.load.obtain import obtain, refresh_behind, refresh_first

__all__ = (
    "LOOKED_AT_ONCE",
    "SENT_AT_ONCE",
    "Job",
    "LoadDesk",
    "Order",
    "load",
    "load_anyway",
    "look_many",
    "obtain",
    "parts",
    "refresh_behind",
    "refresh_first",
    "reload",
)
