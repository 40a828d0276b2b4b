"""Which server programs there are, and a look at a server by redis-py."""

from collections.abc import Callable

import pytest
import redis

from shardcache.embedded import LocalServer


@pytest.fixture
def ask() -> Callable[..., object]:
    """Return what sends one command to one server and returns the reply as the server sent it."""

    def ask(server: LocalServer, *command: object, password: str | None = None) -> object:
        with redis.Redis(port=server.port, password=password, protocol=2) as client:
            connection = client.connection_pool.get_connection()
            connection.send_command(*command)
            return connection.read_response()

    return ask
