-- Prelude: ends the script unless the run is the one that the caller joined.

if redis.call('GETRANGE', KEYS[1], 0, 15) ~= ARGV[1] then
  return redis.error_reply('RUNLOST no such run')
end
