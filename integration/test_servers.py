"""The fixtures themselves: servers start, die, return, freeze and get cut off."""

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .servers import Fleet, Server


def connect(server: Server, timeout: float = 5.0) -> redis.Redis:
    return redis.Redis.from_url(
        server.url,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
    )


def test_fleet_members_are_distinct_servers(fleet: Fleet) -> None:
    """Three servers of a fleet share neither address nor data."""
    servers = fleet(3)
    for server in servers:
        with connect(server) as client:
            client.set("url", server.url)
    seen = []
    for server in servers:
        with connect(server) as client:
            seen.append(client.get("url"))
    assert seen == [server.url.encode() for server in servers]
    assert len(set(seen)) == 3


def test_fleet_comes_back_empty_and_whole(fleet: Fleet) -> None:
    """Whatever a test did to the servers, the next one gets them running, thawed and empty."""
    killed, paused, filled = fleet(3)
    with connect(filled) as client:
        client.set("left", "over")
    killed.kill()
    paused.pause()
    for server in fleet(3):
        with connect(server) as client:
            assert client.dbsize() == 0


def test_killed_server_refuses_and_returns_empty_at_its_address(server: Server) -> None:
    """A killed server refuses connections; started again it is empty at the same address."""
    url = server.url
    with connect(server) as client:
        client.set("k", "v")
        before = client.info("server")["run_id"]
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.get("k")
        server.start()
        assert server.url == url
        assert client.get("k") is None
        assert client.info("server")["run_id"] != before


def test_restarted_server_is_a_new_one(server: Server) -> None:
    """A restart gives a new run id, at the same address."""
    with connect(server) as client:
        before = client.info("server")["run_id"]
        server.restart()
        client.close()
        assert client.info("server")["run_id"] != before


def test_paused_server_is_silent_and_keeps_its_data(server: Server) -> None:
    """A paused server answers nothing, also on a new connection; resumed, it has the data."""
    with connect(server) as client:
        client.set("k", "v")
    server.pause()
    with connect(server, timeout=0.1) as client, pytest.raises(redis.TimeoutError):
        client.get("k")
    server.unpause()
    with connect(server) as client:
        assert client.get("k") == b"v"


def test_cut_server_is_gone_and_keeps_its_data(server: Server) -> None:
    """A server without network keeps running, and has the same data and run id afterwards."""
    with connect(server) as client:
        client.set("k", "v")
        before = client.info("server")["run_id"]
        server.cut_network()
        with pytest.raises(redis.ConnectionError):
            client.get("k")
        server.restore_network()
        assert client.get("k") == b"v"
        assert client.info("server")["run_id"] == before
