-- KEYS: run, names. ARGV: digits, seconds.
return redis.call('ZRANGEBYSCORE', KEYS[2], digits(now - tonumber(ARGV[2])), '+inf')
