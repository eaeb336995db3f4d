"""What Redis does for a store in one step, in Lua.

A write to weights that are not there would make zeros of all others, so each looks first.

In every script KEYS[1] is the key of the run, whose value begins with the run's 16 digits, and
ARGV[1] is those digits. Times are the server's.
"""

from thesis_tf.issgd.stores.backends.redis.client import LOST, Script

_NOW = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local function digits(time) return string.format('%.6f', time) end
"""
_CHECK = f"""
if redis.call('GETRANGE', KEYS[1], 0, 15) ~= ARGV[1] then
  return redis.error_reply('{LOST} no such run')
end
"""
# KEYS: run, weights of each split. ARGV: digits, spec, the lost run's value or '', header, NaN,
# block size, blocks of each split.
CREATE = Script("""
local there = redis.call('GET', KEYS[1])
if there and there ~= ARGV[3] then return there end
local record = ARGV[4] .. string.rep(ARGV[5], tonumber(ARGV[6]))
for i = 2, #KEYS do
  redis.call('SET', KEYS[i], string.rep(record, tonumber(ARGV[5 + i])))
end
redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2])
return ARGV[1] .. ARGV[2]
""")

# KEYS: run, finished. ARGV: digits, 0 or 1.
SET_FINISHED = Script(
    _CHECK
    + """
if ARGV[2] == '1' then redis.call('SET', KEYS[2], 1) else redis.call('DEL', KEYS[2]) end
return 1
"""
)

# KEYS: run, claim. ARGV: digits, token, milliseconds. Returns {} or {held for, milliseconds left}.
CLAIM_MASTER = Script(
    _CHECK
    + _NOW
    + """
local holder = redis.call('HMGET', KEYS[2], 'token', 'since')
if holder[1] and holder[1] ~= ARGV[2] then
  return {digits(now - tonumber(holder[2])), redis.call('PTTL', KEYS[2])}
end
redis.call('HSET', KEYS[2], 'token', ARGV[2], 'since', holder[2] or digits(now))
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return {}
"""
)

# KEYS: run, claim. ARGV: digits, token.
RELEASE_MASTER = Script(
    _CHECK
    + """
if redis.call('HGET', KEYS[2], 'token') == ARGV[2] then redis.call('DEL', KEYS[2]) end
return 1
"""
)

# KEYS: run, head, new chunks, old chunks. ARGV: digits, head, the head before or '', number of new
# chunks. Returns whether the head before still was.
SET_HEAD = Script(
    _CHECK
    + """
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[3] then return 0 end
local last = 2 + tonumber(ARGV[4])
for i = 3, last do
  if redis.call('EXISTS', KEYS[i]) == 0 then
    return redis.error_reply('ERR chunks expired before all of them were sent')
  end
end
for i = 3, last do redis.call('PERSIST', KEYS[i]) end
redis.call('SET', KEYS[2], ARGV[2])
for i = last + 1, #KEYS do redis.call('UNLINK', KEYS[i]) end
return 1
"""
)

# KEYS: run, leases, owners. ARGV: digits, number of blocks, worker, seconds.
LEASE = Script(
    _CHECK
    + _NOW
    + """
local count = tonumber(ARGV[2])
local block = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', digits(now), 'LIMIT', 0, 1)[1]
if not block then
  if redis.call('ZCARD', KEYS[2]) >= count then return false end
  block = tonumber(redis.call('HGET', KEYS[3], 'cursor') or 0)
  while redis.call('ZSCORE', KEYS[2], block) do block = (block + 1) % count end
  redis.call('HSET', KEYS[3], 'cursor', (block + 1) % count)
end
redis.call('ZADD', KEYS[2], digits(now + tonumber(ARGV[4])), block)
redis.call('HSET', KEYS[3], block, ARGV[3])
return tonumber(block)
"""
)

# KEYS: run, leases, owners. ARGV: digits, block, worker.
RELEASE = Script(
    _CHECK
    + """
if redis.call('HGET', KEYS[3], ARGV[2]) == ARGV[3] then
  redis.call('ZREM', KEYS[2], ARGV[2])
  redis.call('HDEL', KEYS[3], ARGV[2])
end
return 1
"""
)

# KEYS: run, weights, leases, owners. ARGV: digits, offset, header without its 8 bytes of time,
# version, values, block, worker. Headers begin with 16 bytes that all of a run have in common, then
# the version, -1 if there is none. Joining header and values to one string would take 1.25x as long
# as a second SETRANGE.
WRITE_BLOCK = Script(
    _CHECK
    + f"""
local there = redis.call('GETRANGE', KEYS[2], ARGV[2], ARGV[2] + 23)
if string.sub(there, 1, 16) ~= string.sub(ARGV[3], 1, 16) then
  return redis.error_reply('{LOST} no such weights')
end
if struct.unpack('<i8', there, 17) <= tonumber(ARGV[4]) then
  local clock = redis.call('TIME')
  local time = struct.pack('<d', clock[1] + clock[2] / 1e6)
  redis.call('SETRANGE', KEYS[2], ARGV[2], ARGV[3] .. time)
  redis.call('SETRANGE', KEYS[2], ARGV[2] + #ARGV[3] + 8, ARGV[5])
end
if redis.call('HGET', KEYS[4], ARGV[6]) == ARGV[7] then
  redis.call('ZREM', KEYS[3], ARGV[6])
  redis.call('HDEL', KEYS[4], ARGV[6])
end
return 1
"""
)

# KEYS: run, weights. ARGV: digits, bytes of all weights, values, offset of each value.
WRITE_VALUES = Script(
    _CHECK
    + f"""
if redis.call('STRLEN', KEYS[2]) ~= tonumber(ARGV[2]) then
  return redis.error_reply('{LOST} no such weights')
end
for i = 4, #ARGV do
  redis.call('SETRANGE', KEYS[2], ARGV[i], string.sub(ARGV[3], 4 * i - 15, 4 * i - 12))
end
return 1
"""
)

# KEYS: run, names. ARGV: digits, name, seconds to remember others for.
HEARTBEAT = Script(
    _CHECK
    + _NOW
    + """
redis.call('ZADD', KEYS[2], digits(now), ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', digits(now - tonumber(ARGV[3])))
return 1
"""
)

# KEYS: run, names. ARGV: digits, seconds.
ALIVE = Script(
    _CHECK
    + _NOW
    + "return redis.call('ZRANGEBYSCORE', KEYS[2], digits(now - tonumber(ARGV[2])), '+inf')"
)
