"""What the servers run for a load: the load lock is a quorum lock without a counter, and the fill is checked against it.

KEYS are the load lock's own (`LockKeys`: lock, fence, waiting, wake; there is no fence), behind the value's where a script needs that.
``waiting`` is a set of those who wait for the value, each woken by one element of the list ``wake``.
"""

__all__ = ("CLAIM", "FILL", "GIVE_UP")

_WAKE = b"""\
local n=redis.call('SCARD',KEYS[3])
if n>0 then
redis.call('DEL',KEYS[3])
for i=1,math.min(n,1000) do redis.call('RPUSH',KEYS[4],'1') end
redis.call('PEXPIRE',KEYS[4],1000)
end
"""

# KEYS: the lock's. ARGV: token, ttl, ms for which the asker will wait if it is refused ("0": it will not).
# Answers as ACQUIRE does, {1, 0, 0} or {0, ttl of the holder, 0}, so that one ballot counts both.
CLAIM = b"""\
local held=redis.call('GET',KEYS[1])
if held==ARGV[1] then return {1,0,0} end
if not held then
redis.call('SET',KEYS[1],ARGV[1],'PX',ARGV[2])
redis.call('DEL',KEYS[4])
return {1,0,0}
end
if ARGV[3]~='0' then
redis.call('SADD',KEYS[3],ARGV[1])
redis.call('PEXPIRE',KEYS[3],ARGV[3])
end
return {0,redis.call('PTTL',KEYS[1]),0}"""

# KEYS: the lock's, then the value's. ARGV: token, SHA-1 of the value that the loader saw ("": none), ms to live ("": for ever), value.
# Answers 1: stored; 0: the lock is not ours any more (it ran out, or a set or delete took it away); -1: the value is another.
FILL = (
    b"""\
if redis.call('GET',KEYS[1])~=ARGV[1] then return 0 end
redis.call('DEL',KEYS[1])
"""
    + _WAKE
    + b"""\
local now=redis.call('GET',KEYS[5])
if (now and redis.sha1hex(now) or '')~=ARGV[2] then return -1 end
if ARGV[3]=='' then redis.call('SET',KEYS[5],ARGV[4])
else redis.call('SET',KEYS[5],ARGV[4],'PX',ARGV[3]) end
return 1"""
)

# KEYS: the lock's. ARGV: token.
GIVE_UP = (
    b"""\
if redis.call('GET',KEYS[1])~=ARGV[1] then return 0 end
redis.call('DEL',KEYS[1])
"""
    + _WAKE
    + b"return 1"
)
