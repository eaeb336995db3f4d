-- KEYS: run, claim. ARGV: digits, token.
if redis.call('HGET', KEYS[2], 'token') == ARGV[2] then redis.call('DEL', KEYS[2]) end
return 1
