"""What the servers run for a load: the load lock is a quorum lock without a counter, and the fill is checked against it.

KEYS are the load lock's own (`LockKeys`: lock, pass in the place of a fence, waiting, wake), and behind them the value's where a script needs that.
The pass has the same token as the lock. A write takes the pass away, no more: nothing is stored without it, but the lock, a vote, stays with its holder,
who still loads; a vote given away under him could make a second majority.
``waiting`` is a set of those who wait for the value, each woken by one element of the list ``wake``. Only on the key's own
shard does anybody wait.
"""

__all__ = ("CLAIM", "FILL", "GIVE_UP", "PASS_MS", "TAKE", "WAITING_MS")

WAITING_MS = 1000  # how long somebody who waits is remembered; he says so again before that

PASS_MS = (
    24 * 3600 * 1000
)  # what a load that died leaves behind does not stay for ever; one that takes a day is not stored

# Whoever waits is woken even if the lock is not ours any more: a load that was voided is over now, and the next may begin.
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

# KEYS: the lock's. ARGV: token, name of the asker if he waits when he is refused (""), ttl, that of the pass.
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

# KEYS: the lock's. ARGV: token, ttl, that of the pass. Takes the lock from whoever has it.
TAKE = b"""\
redis.call('SET',KEYS[1],ARGV[1],'PX',ARGV[2])
redis.call('SET',KEYS[2],ARGV[1],'PX',ARGV[3])
return 1"""

# Gives up what is ours of lock and pass.
_DONE = b"""\
local held=redis.call('GET',KEYS[1])==ARGV[1]
local passed=redis.call('GET',KEYS[2])==ARGV[1]
if held then redis.call('DEL',KEYS[1]) end
if passed then redis.call('DEL',KEYS[2]) end
"""

# KEYS: the lock's, then the value's. ARGV: token, SHA-1 of the value that the loader saw ("": none), ms to live ("": for ever),
# "1" if what it saw has had its time by now (then there may be none, and nobody has deleted it), value.
# Answers 1: stored; 0: the lock is not ours any more (it ran out, or a set or delete voided it); -1: the value is another.
# What is no string (somebody else's list) counts as none, and is overwritten as SET would do it.
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

# KEYS: the lock's. ARGV: token, name of the asker if he goes on waiting for somebody else; "" if his load is over.
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
