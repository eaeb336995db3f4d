-- KEYS: run, claim. ARGV: digits, token, milliseconds. Returns {} or {held for, milliseconds left}.
local holder = redis.call('HMGET', KEYS[2], 'token', 'since')
if holder[1] and holder[1] ~= ARGV[2] then
  return {digits(now - tonumber(holder[2])), redis.call('PTTL', KEYS[2])}
end
redis.call('HSET', KEYS[2], 'token', ARGV[2], 'since', holder[2] or digits(now))
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return {}
