"""The scripts that the voters run: one for each message of the protocol.

KEYS are those of `LockKeys`, in its order, as far as a script needs them: the lock, its fence
counter, the sign that a client waits, the list that wakes one waiting client. Times are
milliseconds.

The counter starts from the server's TIME in microseconds, and grows by one per grant. If it was
lost (evicted, expired, deleted), it starts again above all its former values, as long as that
server's clock was not set back: no lock is granted a million times a second. It also starts from
TIME again if it is not above the *floor* of this server, the time at which its present life became
known: a server that restarted from a snapshot has counters, but old ones. Below 2**53 a Lua number
is exact; that many microseconds are the year 2255.

Each voter keeps a register, a hash:

    field        content
    ---------    --------------------------------------------------------------------------------
    born         TIME when this register was made; it differs after the data were lost
    floor        TIME when this server's present life was first registered; no counter is granted
                 below it
    longest      the longest ttl that was ever registered, ms
    version      which membership this node knows (see `membership`), as NUMBER-DIGEST
    members      that membership
    next         the membership that this node has agreed to have next
    :NAME        the life of the voter NAME that was registered last, and ":0:", or ":1:" if the
                 voter is known to have forgotten, or ":2:SET" if all voters of that set have been
                 asked and none remembers another life
"""

__all__ = (
    "ACQUIRE",
    "ADOPT",
    "BREAK",
    "CONFIGURE",
    "CONFIRM",
    "EXTEND",
    "LOOK",
    "REGISTER",
    "RELEASE",
    "REPAIR",
)

# KEYS: lock, counter, sign, register.
# ARGV: token, ttl, ttl of the counter, "1" to let waiting clients go first, ttl of the sign to set
# if the lock is held ("0": none), the version of the membership by which this voter was chosen
# ("": none), "1" only to look whether the lock is free.
# A client that only lets others go first sets no sign: that would block its own next acquisition.
# Answers {1, counter, whether it started from the clock, born, ms since then}; or {0, ttl of the
# holder, counter, the holder's token}, or {0, 0, counter} if the lock is free, but others have
# waited; or {2, the membership} if that is another one. Sent twice it grants once.
ACQUIRE = b"""\
local t=redis.call('TIME')
local now=t[1]*1000000+t[2]
local known=redis.call('HMGET',KEYS[4],'born','floor','version')
if ARGV[6]~='' and known[3]~=ARGV[6] then
return {2,redis.call('HGET',KEYS[4],'members') or ''}
end
local born=tonumber(known[1] or now)
if not known[1] then redis.call('HSET',KEYS[4],'born',string.format('%.0f',now)) end
local age=math.max(math.floor((now-born)/1000),0)
local held=redis.call('GET',KEYS[1])
if ARGV[7]=='1' and not held then
return {1,math.max(tonumber(redis.call('GET',KEYS[2]) or '0'),tonumber(known[2] or '0')),0,born,age}
end
if not held and not (ARGV[4]=='1' and redis.call('EXISTS',KEYS[3])==1) then
redis.call('SET',KEYS[1],ARGV[1],'PX',ARGV[2])
local n=redis.call('INCR',KEYS[2])
local floor=tonumber(known[2] or '0')
if n>1 and n>floor then
redis.call('PEXPIRE',KEYS[2],ARGV[3])
return {1,n,0,born,age}
end
n=math.max(now,floor+1)
redis.call('SET',KEYS[2],string.format('%.0f',n),'PX',ARGV[3])
return {1,n,1,born,age}
end
local n=tonumber(redis.call('GET',KEYS[2]) or '0')
if held==ARGV[1] then return {1,n,0,born,age} end
if not held then return {0,0,n} end
if ARGV[5]~='0' then redis.call('SET',KEYS[3],'','PX',ARGV[5]) end
return {0,redis.call('PTTL',KEYS[1]),n,held}"""

# ARGV: token, fence, ttl of the counter. Raises the counter to the fence if the key is ours, and
# answers whether it is.
CONFIRM = b"""\
if redis.call('GET',KEYS[1])~=ARGV[1] then return 0 end
if tonumber(redis.call('GET',KEYS[2]) or '0')<tonumber(ARGV[2]) then
redis.call('SET',KEYS[2],ARGV[2],'PX',ARGV[3])
end
return 1"""

# In which life a voter answers: when its register was made, and the ms since then. Load locks have
# no register here: 0, 0.
_LIFE = b"""\
local function life()
if not KEYS[5] then return 0,0 end
local t=redis.call('TIME')
local now=t[1]*1000000+t[2]
local born=tonumber(redis.call('HGET',KEYS[5],'born') or now)
if born==now then redis.call('HSETNX',KEYS[5],'born',string.format('%.0f',now)) end
return born,math.max(math.floor((now-born)/1000),0)
end
"""

# KEYS: those of the lock; the register, unless it is a load lock.
# ARGV: token, ttl. Answers {1, born, ms since then} if the key is ours, {0} if it is gone, {-1} if
# it is another's. It never shortens a ttl: a shorter extension that arrives late must not undo a
# later one.
EXTEND = (
    _LIFE
    + b"""\
local held=redis.call('GET',KEYS[1])
if held==ARGV[1] then
if redis.call('PTTL',KEYS[1])<tonumber(ARGV[2]) then redis.call('PEXPIRE',KEYS[1],ARGV[2]) end
return {1,life()}
end
if held then return {-1} end
return {0}"""
)

# KEYS: those of the lock, the register.
# ARGV: the token that is there, the token to put in its place. Answers {1, time left, born, ms
# since then} if that is done, or was done before; {0} if nothing is there, {-1} if it is another's.
# Sent twice it does it once; if both tokens are the same, it only looks.
ADOPT = (
    _LIFE
    + b"""\
local held=redis.call('GET',KEYS[1])
local left=redis.call('PTTL',KEYS[1])
if left<=0 then return {0} end
if held~=ARGV[2] then
if held~=ARGV[1] then return {-1} end
redis.call('SET',KEYS[1],ARGV[2],'PX',left)
end
return {1,left,life()}"""
)

# ARGV: token, ttl, fence, ttl of the counter. Sets our key if there is none, and raises the counter
# to the fence.
REPAIR = b"""\
if redis.call('EXISTS',KEYS[1])==1 then return 0 end
redis.call('SET',KEYS[1],ARGV[1],'PX',ARGV[2])
if tonumber(redis.call('GET',KEYS[2]) or '0')<tonumber(ARGV[3]) then
redis.call('SET',KEYS[2],ARGV[3],'PX',ARGV[4])
end
return 1"""

# Wakes the client that has waited longest, if there is one: BLPOP serves first come, first served.
_WAKE = b"""\
if redis.call('EXISTS',KEYS[3])==1 and redis.call('EXISTS',KEYS[4])==0 then
redis.call('RPUSH',KEYS[4],'1')
redis.call('PEXPIRE',KEYS[4],1000)
end
"""

# ARGV: token. Answers 1 if our key was there and is deleted now, 0 if there was none, -1 if it is
# another's.
RELEASE = (
    b"""\
local held=redis.call('GET',KEYS[1])
if held~=ARGV[1] then return held and -1 or 0 end
redis.call('DEL',KEYS[1])
"""
    + _WAKE
    + b"return 1"
)

# Frees the lock, whoever holds it. Answers whether it was held. The counter stays, so that the
# fencing token of the old holder is too low.
BREAK = (
    b"""\
local found=redis.call('DEL',KEYS[1])
"""
    + _WAKE
    + b"return found"
)

# Answers {token or nil, time left, counter}.
LOOK = b"""\
local fence=tonumber(redis.call('GET',KEYS[2]) or '0')
return {redis.call('GET',KEYS[1]),redis.call('PTTL',KEYS[1]),fence}"""

# KEYS: the register. ARGV: longest ttl in use, the name of the voter that is asked, the id of the
# set of voters, then for each voter its name, its life, and what is known of it: "1" that it has
# forgotten, "2" that it has not, because all of the set have been asked, "0" nothing.
# Answers {longest ttl ever registered, born, floor, then for each voter what is known of it now}.
# A register that has another life of a voter knows that this voter has forgotten.
REGISTER = b"""\
local t=redis.call('TIME')
local now=string.format('%.0f',t[1]*1000000+t[2])
local known=redis.call('HMGET',KEYS[1],'longest','born','floor')
local longest,born,floor=known[1] or '0',known[2] or now,known[3] or '0'
if not known[2] then redis.call('HSET',KEYS[1],'born',born) end
if tonumber(longest)<tonumber(ARGV[1]) then
longest=ARGV[1]
redis.call('HSET',KEYS[1],'longest',longest)
end
local out={}
for i=4,#ARGV,3 do
local field,life,state=':'..ARGV[i],ARGV[i+1],ARGV[i+2]
local was=redis.call('HGET',KEYS[1],field)
local old,before,set='','',''
if was then old,before,set=string.match(was,'^(.*):(%d):(.*)$') end
if was and (old~=life or before=='1') then state='1' end
if old~=life and ARGV[i]==ARGV[2] and tonumber(floor)<tonumber(now) then
floor=now
redis.call('HSET',KEYS[1],'floor',floor)
end
if state=='0' and before=='2' then
if set==ARGV[3] then state='2' end
elseif old~=life or before~=state or state=='2' then
redis.call('HSET',KEYS[1],field,life..':'..state..':'..(state=='2' and ARGV[3] or ''))
end
out[#out+1]=tonumber(state)
end
return {tonumber(longest),tonumber(born),tonumber(floor),unpack(out)}"""

# KEYS: the register. ARGV: "next" to agree to a membership or "now" to have it from now on, its
# version, its text. A node agrees to one next membership only, and keeps only the newest one.
# Answers {version, membership, next} as they are then. A node that gets a new membership starts its
# counters from its clock: it may have no counter of a lock that it never voted on before.
CONFIGURE = b"""\
local t=redis.call('TIME')
local now=string.format('%.0f',t[1]*1000000+t[2])
local known=redis.call('HMGET',KEYS[1],'born','version','members','next','floor')
if not known[1] then redis.call('HSET',KEYS[1],'born',now) end
local version,members,after=known[2] or '',known[3] or '',known[4] or ''
local number=tonumber(string.match(version,'^%d+') or '0')
local asked=tonumber(string.match(ARGV[2],'^%d+') or '0')
if ARGV[1]=='now' and number<asked then
version,members,after=ARGV[2],ARGV[3],''
redis.call('HSET',KEYS[1],'version',version,'members',members)
redis.call('HDEL',KEYS[1],'next')
if tonumber(known[5] or '0')<tonumber(now) then redis.call('HSET',KEYS[1],'floor',now) end
elseif ARGV[1]=='next' and number==asked-1 and after=='' then
after=ARGV[3]
redis.call('HSET',KEYS[1],'next',after)
end
return {version,members,after}"""
