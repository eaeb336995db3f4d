-- KEYS: run, leases, owners. ARGV: digits, number of blocks, worker, seconds.
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
