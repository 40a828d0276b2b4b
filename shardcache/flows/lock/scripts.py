"""What the voters run: one script for each word of the protocol.

KEYS are those of `LockKeys`, in its order, as far as a script needs them: the lock, its fence counter, the sign
that somebody waits, the list that wakes one of them. Times are milliseconds.

The counter starts from the server's TIME in microseconds, and after that grows by one per grant. So where it was lost (evicted, expired,
wiped), it starts again above all that it ever said, as long as that server's clock was not set back: a lock is not
granted a million times a second. It starts from there again where it is not above the *floor* of this server, the time at which
its present life became known: a server that restarted from a snapshot has counters, but old ones. Below 2**53 a Lua number is exact; that many
microseconds are the year 2255.

Each voter keeps a register, a hash:

    field        what it holds
    ---------    --------------------------------------------------------------------------------------------
    born         TIME when this register was made: another one says that the data were lost, process or not
    floor        TIME when this server's present life was first registered: no counter is granted below it
    longest      the longest ttl that was ever registered, ms
    version      which membership this node knows (see `membership`), as NUMBER-DIGEST
    members      that membership
    next         the membership that this node has agreed to have next
    :NAME        the life of the voter NAME that was registered last, and ":0:", ":1:" if it is known to have forgotten,
                 or ":2:SET" if all voters of that set have been asked and none remembers another one
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
# ARGV: token, ttl, ttl of the counter, "1" to let those go first who wait, ttl of the sign to set if it is held ("0": none), the version of the
# membership by which this voter was chosen ("": none), "1" only to look whether it is free.
# Whoever only lets others go first sets no sign: it would be in the way of his own next acquisition, for ever.
# Answers {1, counter, whether it started from the clock, born, ms since then} or {0, ttl of the holder, counter, his token} ({0, 0, counter}:
# it is free, but others have waited), or {2, the membership} where that is another. Sent twice it grants once.
ACQUIRE = b"""\
local t=redis.call('TIME')
local now=t[1]*1000000+t[2]
local known=redis.call('HMGET',KEYS[4],'born','floor','version')
if ARGV[6]~='' and known[3]~=ARGV[6] then return {2,redis.call('HGET',KEYS[4],'members') or ''} end
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

# ARGV: token, fence, ttl of the counter. Answers 1 if the counter is at the fence while the key is ours.
CONFIRM = b"""\
if redis.call('GET',KEYS[1])~=ARGV[1] then return 0 end
if tonumber(redis.call('GET',KEYS[2]) or '0')<tonumber(ARGV[2]) then redis.call('SET',KEYS[2],ARGV[2],'PX',ARGV[3]) end
return 1"""

# What says in which life a voter answers: when its register was made, and the ms since then. Load locks have no register here: 0, 0.
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
# ARGV: token, ttl. Answers {1, born, ms since then} if the key is ours, {0} if it is gone, {-1} if it is another's.
# Never shortens: an extension for less that comes late must not take back what a later one gave.
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
# ARGV: the token that is there, the one to put in its place. Answers {1, time left, born, ms since then} if that is done, or has been; {0} if
# nothing is there, {-1} if it is another's. Sent twice it does it once; with one token twice it only looks.
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

# ARGV: token, ttl, fence, ttl of the counter. Puts our key where none is, and the counter to the fence.
REPAIR = b"""\
if redis.call('EXISTS',KEYS[1])==1 then return 0 end
redis.call('SET',KEYS[1],ARGV[1],'PX',ARGV[2])
if tonumber(redis.call('GET',KEYS[2]) or '0')<tonumber(ARGV[3]) then redis.call('SET',KEYS[2],ARGV[3],'PX',ARGV[4]) end
return 1"""

# Wakes the one that has waited longest, if there is any: BLPOP serves them in the order of their coming.
_WAKE = b"""\
if redis.call('EXISTS',KEYS[3])==1 and redis.call('EXISTS',KEYS[4])==0 then
redis.call('RPUSH',KEYS[4],'1')
redis.call('PEXPIRE',KEYS[4],1000)
end
"""

# ARGV: token. Answers 1 if our key was there and is gone now, 0 if none was there, -1 if it is another's.
RELEASE = (
    b"""\
local held=redis.call('GET',KEYS[1])
if held~=ARGV[1] then return held and -1 or 0 end
redis.call('DEL',KEYS[1])
"""
    + _WAKE
    + b"return 1"
)

# Takes the lock from whoever holds it. Answers whether there was one. The counter stays, so the old holder is fenced off.
BREAK = (
    b"""\
local found=redis.call('DEL',KEYS[1])
"""
    + _WAKE
    + b"return found"
)

# Answers {token or nil, time left, counter}.
LOOK = b"""\
return {redis.call('GET',KEYS[1]),redis.call('PTTL',KEYS[1]),tonumber(redis.call('GET',KEYS[2]) or '0')}"""

# KEYS: the register. ARGV: longest ttl in use, the name of the voter that is asked, that of the set of voters, then for each voter that is met its
# name, its life, and what is known of it: "1" that it has forgotten, "2" that it has not, as all of the set have been asked, "0" nothing.
# Answers {longest ttl ever registered, born, floor, then for each voter what is known of it now}. Who remembers a voter in another life
# knows that this one has forgotten.
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

# KEYS: the register. ARGV: "next" to agree to a membership, "now" to have it from now on, its version, itself. A node agrees to one next membership
# only, and has none but the newest. Answers {version, membership, next} as they are then. Who has a new one counts on from its clock:
# what it never voted on before, it may never have counted.
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
