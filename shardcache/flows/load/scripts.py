"""The scripts of a load. The load lock is a quorum lock without a counter; a fill is checked by it.

KEYS are those of the load lock (`LockKeys`: lock, fill token in the place of a fence, waiting,
wake), and behind them the value's, if a script needs that.

The fill token has the same text as the lock. A write deletes the fill token only. Nothing is
stored without it, but the lock, a vote, stays with its holder, which is still loading: if its vote
were given to another client, there could be a second majority.

``waiting`` is a set of the clients that wait for the value. Each is woken by one element of the
list ``wake``. Clients wait on the key's own shard only.
"""

__all__ = ("CLAIM", "FILL", "FILL_TOKEN_MS", "GIVE_UP", "TAKE", "WAITING_MS")

# How long a waiting client is remembered; it registers again before that.
WAITING_MS = 1000

# How long a fill token lives: that of a load that died must not stay for ever. The value of a load
# that takes longer than a day is not stored.
FILL_TOKEN_MS = 24 * 3600 * 1000

# Waiting clients are woken even if the lock is no longer ours: the load that was invalidated is
# over now, and the next one may begin.
_WAKE = b"""\
local n=redis.call('SCARD',KEYS[3])
if n>0 then
redis.call('DEL',KEYS[3])
for i=1,math.min(n,1000) do redis.call('RPUSH',KEYS[4],'1') end
redis.call('PEXPIRE',KEYS[4],1000)
end
"""

_WAIT = b"""\
redis.call('SADD',KEYS[3],ARGV[2])
redis.call('PEXPIRE',KEYS[3],1000)
"""

# KEYS: the lock's. ARGV: token, name of the client if it waits when it is refused (else ""), ttl,
# ttl of the fill token.
# Answers as ACQUIRE does, {1, 0, 0} or {0, ttl of the holder, 0}, so that one ballot counts both.
CLAIM = (
    b"""\
local held=redis.call('GET',KEYS[1])
if held==ARGV[1] then return {1,0,0} end
if not held then
redis.call('SET',KEYS[1],ARGV[1],'PX',ARGV[3])
redis.call('SET',KEYS[2],ARGV[1],'PX',ARGV[4])
redis.call('DEL',KEYS[4])
return {1,0,0}
end
if ARGV[2]~='' then
"""
    + _WAIT
    + b"""\
end
return {0,redis.call('PTTL',KEYS[1]),0}"""
)

# KEYS: the lock's. ARGV: token, ttl, ttl of the fill token. Takes the lock, whoever holds it.
TAKE = b"""\
redis.call('SET',KEYS[1],ARGV[1],'PX',ARGV[2])
redis.call('SET',KEYS[2],ARGV[1],'PX',ARGV[3])
return 1"""

# Deletes the lock and the fill token, as far as they are ours.
_DONE = b"""\
local held=redis.call('GET',KEYS[1])==ARGV[1]
local passed=redis.call('GET',KEYS[2])==ARGV[1]
if held then redis.call('DEL',KEYS[1]) end
if passed then redis.call('DEL',KEYS[2]) end
"""

# KEYS: the lock's, then the value's. ARGV: token, SHA-1 of the value that was read ("": none), ms
# to live ("": for ever), "1" if the value that was read has expired by now (then there may be none
# although nobody has deleted it), value.
# Answers 1: stored; 0: the load is not valid any more (the lock expired, or a set or delete
# invalidated the load); -1: the value is another one.
# What is no string (another program's list) counts as none, and is overwritten, as SET does it.
FILL = (
    _DONE
    + _WAKE
    + b"""\
if not (held and passed) then return 0 end
local now=redis.pcall('GET',KEYS[5])
now=type(now)=='string' and redis.sha1hex(now) or ''
if now~=ARGV[2] and not (now=='' and ARGV[4]=='1') then return -1 end
if ARGV[3]=='' then redis.call('SET',KEYS[5],ARGV[5])
else redis.call('SET',KEYS[5],ARGV[5],'PX',ARGV[3]) end
return 1"""
)

# KEYS: the lock's. ARGV: token, name of the client if it goes on waiting for another load; "" if
# its own load is over.
GIVE_UP = (
    _DONE
    + b"""\
if ARGV[2]~='' then
"""
    + _WAIT
    + b"""\
else
"""
    + _WAKE
    + b"""\
end
return held and 1 or 0"""
)
