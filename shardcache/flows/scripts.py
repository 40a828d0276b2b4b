"""Server-side scripts, each by name.

They are short enough to be sent whole: in one exchange, without a cache of digests that may miss.
"""

__all__ = ("ADD_TO", "FRESH_AND_GRACE", "FRESH_LEFT", "PERSIST", "TOUCH_FRESH")

# KEYS[1]; ARGV: delta, or delta + first sum + ttl in ms ("" for none). The absent key is told apart
# on the server, since INCRBY alone would create it, without a ttl. The sum goes back as text: a
# number of Lua is a double, and loses digits from 2**53 on.
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

# The milliseconds for which a loaded value may be served stale, by which it expires later than its
# ttl says; 0 for any other value. See ``docs/wire-format.md``: 0xFF, flags, eight bytes of grace;
# in a signed value behind 0xFD and sixteen bytes of signature.
_GRACE = b"""\
local raw=redis.pcall('GETRANGE',KEYS[1],0,26)
if type(raw)~='string' then raw='' end
if string.byte(raw,1)==253 then raw=string.sub(raw,18) end
local grace=0
if string.byte(raw,1)==255 and string.len(raw)>=10 then
for at=3,10 do grace=grace*256+string.byte(raw,at) end
end
"""

# KEYS[1]. Answers as PTTL does, but without the grace: 0 once a value is stale.
FRESH_LEFT = (
    b"""\
local left=redis.call('PTTL',KEYS[1])
if left<0 then return left end
"""
    + _GRACE
    + b"return math.max(left-grace,0)"
)

# KEYS[1]. Answers the same, and the ms of grace that are left after it: all of the grace as long as
# the value is fresh.
FRESH_AND_GRACE = (
    b"""\
local left=redis.call('PTTL',KEYS[1])
if left<0 then return {left,0} end
"""
    + _GRACE
    + b"return {math.max(left-grace,0),math.min(left,grace)}"
)

# KEYS[1]; ARGV: ms from now on. As PEXPIRE, with the grace on top.
TOUCH_FRESH = _GRACE + b"return redis.call('PEXPIRE',KEYS[1],string.format('%.0f',ARGV[1]+grace))"
