-- KEYS: run, names. ARGV: digits, name, seconds to remember others for.
redis.call('ZADD', KEYS[2], digits(now), ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', digits(now - tonumber(ARGV[3])))
return 1
