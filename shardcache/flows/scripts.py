"""Server-side scripts, each by name. Short enough to be sent whole: one exchange, no cache of digests to miss."""

__all__ = ("ADD_TO", "PERSIST")

# KEYS[1]; ARGV: delta, or delta + initial + ttl in ms ("" for none). The absent key is told apart
# on the server, since INCRBY alone would create it, without a ttl.
ADD_TO = b"""\
if redis.call('EXISTS',KEYS[1])==0 then
if not ARGV[2] then return false end
if ARGV[3]=='' then redis.call('SET',KEYS[1],ARGV[2])
else redis.call('SET',KEYS[1],ARGV[2],'PX',ARGV[3]) end
end
return redis.call('INCRBY',KEYS[1],ARGV[1])"""

# PERSIST alone answers 0 both for an absent key and for one that had no ttl.
PERSIST = b"redis.call('PERSIST',KEYS[1]) return redis.call('EXISTS',KEYS[1])"
