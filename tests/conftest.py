"""What every test shares."""

from hypothesis import settings

# No example is judged by its duration: the machine may be busy with something else.
settings.register_profile("shardcache", deadline=None)
settings.load_profile("shardcache")
