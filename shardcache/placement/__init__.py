"""Placements: which node owns a key, as pure functions of names and weights."""

from shardcache.placement.circle import Moves
from shardcache.placement.ketama import KetamaRing
from shardcache.placement.node import Node
from shardcache.placement.protocol import Placement
from shardcache.placement.ring import HashRing

__all__ = ("HashRing", "KetamaRing", "Moves", "Node", "Placement")
