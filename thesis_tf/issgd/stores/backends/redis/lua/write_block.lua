-- KEYS: run, weights, leases, owners. ARGV: digits, offset, header without its 8 bytes of time,
-- version, values, block, worker. Headers begin with 16 bytes that all of a run have in common, then
-- the version, -1 if there is none. Joining header and values to one string would take 1.25x as long
-- as a second SETRANGE.
local there = redis.call('GETRANGE', KEYS[2], ARGV[2], ARGV[2] + 23)
if string.sub(there, 1, 16) ~= string.sub(ARGV[3], 1, 16) then
  return redis.error_reply('RUNLOST no such weights')
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
