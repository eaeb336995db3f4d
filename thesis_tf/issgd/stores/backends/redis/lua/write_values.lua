-- KEYS: run, weights. ARGV: digits, bytes of all weights, values, offset of each value.
if redis.call('STRLEN', KEYS[2]) ~= tonumber(ARGV[2]) then
  return redis.error_reply('RUNLOST no such weights')
end
for i = 4, #ARGV do
  redis.call('SETRANGE', KEYS[2], ARGV[i], string.sub(ARGV[3], 4 * i - 15, 4 * i - 12))
end
return 1
