"""Uses of the public names that must type-check under mypy --strict; nothing here is run."""

from typing import assert_type

from shardcache.placement.node import Node


def a_node_is_a_name_and_a_weight() -> None:
    node = Node("a", weight=2.0, url="redis://127.0.0.1:6379/0")
    assert_type(node.name, str)
    assert_type(node.url, str | None)
