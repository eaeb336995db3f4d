-- KEYS: run, weights of each split. ARGV: digits, spec, the lost run's value or '', header, NaN,
-- block size, blocks of each split.
local there = redis.call('GET', KEYS[1])
if there and there ~= ARGV[3] then return there end
local record = ARGV[4] .. string.rep(ARGV[5], tonumber(ARGV[6]))
for i = 2, #KEYS do
  redis.call('SET', KEYS[i], string.rep(record, tonumber(ARGV[5 + i])))
end
redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2])
return ARGV[1] .. ARGV[2]
