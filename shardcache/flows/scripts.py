"""Server-side scripts, each by name. Short enough to be sent whole: one exchange, no cache of digests to miss."""

__all__ = ("ADD_TO", "PERSIST")

# KEYS[1]; ARGV: delta, or delta + first sum + ttl in ms ("" for none). The absent key is told apart
# on the server, since INCRBY alone would create it, without a ttl. The sum goes back as text: a number
# of Lua is a double, and loses digits from 2**53 on.
ADD_TO = b"""\
if redis.call('EXISTS',KEYS[1])==1 then
redis.call('INCRBY',KEYS[1],ARGV[1])
return redis.call('GET',KEYS[1])
end
if not ARGV[2] then return false end
if ARGV[3]=='' then redis.call('SET',KEYS[1],ARGV[2])
else redis.call('SET',KEYS[1],ARGV[2],'PX',ARGV[3]) end
return ARGV[2]"""

# PERSIST alone answers 0 both for an absent key and for one that had no ttl.
PERSIST = b"redis.call('PERSIST',KEYS[1]) return redis.call('EXISTS',KEYS[1])"
