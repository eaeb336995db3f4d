-- KEYS: run, leases, owners. ARGV: digits, block, worker.
if redis.call('HGET', KEYS[3], ARGV[2]) == ARGV[3] then
  redis.call('ZREM', KEYS[2], ARGV[2])
  redis.call('HDEL', KEYS[3], ARGV[2])
end
return 1
