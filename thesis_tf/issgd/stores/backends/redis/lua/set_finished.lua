-- KEYS: run, finished. ARGV: digits, 0 or 1.
if ARGV[2] == '1' then redis.call('SET', KEYS[2], 1) else redis.call('DEL', KEYS[2]) end
return 1
