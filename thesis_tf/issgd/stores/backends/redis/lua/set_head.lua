-- KEYS: run, head, new chunks, old chunks. ARGV: digits, head, the head before or '', number of new
-- chunks. Returns whether the head before still was.
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[3] then return 0 end
local last = 2 + tonumber(ARGV[4])
for i = 3, last do
  if redis.call('EXISTS', KEYS[i]) == 0 then
    return redis.error_reply('ERR chunks expired before all of them were sent')
  end
end
for i = 3, last do redis.call('PERSIST', KEYS[i]) end
redis.call('SET', KEYS[2], ARGV[2])
for i = last + 1, #KEYS do redis.call('UNLINK', KEYS[i]) end
return 1
