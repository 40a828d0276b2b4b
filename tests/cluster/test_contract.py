"""What a client does on independent nodes, it does on a Redis Cluster: the same tests.

Left out are those that name independent servers, put keys of several slots into one command, or
are about loads.
"""

import pytest

from tests.client.test_many import *  # noqa: F403
from tests.client.test_one_command import *  # noqa: F403
from tests.client.test_pipeline import *  # noqa: F403
from tests.client.test_single import *  # noqa: F403


@pytest.fixture
def cache(make):
    """A client as in those tests, with the policy that they expect, which knows the map."""
    cache = make()
    cache.contains("k")
    return cache


del test_a_client_of_redis_py, test_round_trip, test_what_the_server_says_of_them  # noqa: F821
del test_a_write_voids_a_load  # noqa: F821
