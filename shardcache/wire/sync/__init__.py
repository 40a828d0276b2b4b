"""The half for threads: a pool of connections for each shard."""
