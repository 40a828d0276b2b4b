"""Sources of nodes: functions without arguments that say which nodes there are.

A client polls them (`drivers/node_watch.py`), so they may block, fail and change their mind.
"""

from shardcache.discovery.dns_records import nodes_from_dns
from shardcache.discovery.member_source import MemberSource
from shardcache.discovery.node_file import nodes_from_file

__all__ = ("MemberSource", "nodes_from_dns", "nodes_from_file")
