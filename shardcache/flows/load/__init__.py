"""Loading a missing value once: pure flows for every colour and for the simulator."""

from shardcache.flows.load.chunks import LOOKED_AT_ONCE, SENT_AT_ONCE, parts
from shardcache.flows.load.context import LoadDesk
from shardcache.flows.load.get_or_load import obtain, refresh_behind, refresh_first
from shardcache.flows.load.load_once import load, load_anyway, reload
from shardcache.flows.load.read_many import look_many
from shardcache.flows.load.request import Job, Order

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
