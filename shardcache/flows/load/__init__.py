"""Loading a missing value once: pure flows for every colour and for the simulator."""

from shardcache.flows.load.context import LoadContext
from shardcache.flows.load.get_or_load import get_or_load_flow, refresh_behind, refresh_first
from shardcache.flows.load.load_once import load_once_flow, load_unprotected, reload
from shardcache.flows.load.read_many import read_many_flow
from shardcache.flows.load.request import (
    LOOKED_AT_ONCE,
    SENT_AT_ONCE,
    LoadKey,
    LoadRequest,
    chunked,
)

__all__ = (
    "LOOKED_AT_ONCE",
    "SENT_AT_ONCE",
    "LoadContext",
    "LoadKey",
    "LoadRequest",
    "chunked",
    "get_or_load_flow",
    "load_once_flow",
    "load_unprotected",
    "read_many_flow",
    "refresh_behind",
    "refresh_first",
    "reload",
)
