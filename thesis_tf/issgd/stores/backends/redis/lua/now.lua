-- Prelude: `now`, the server's time in seconds, and `digits`, a time as text.

local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local function digits(time) return string.format('%.6f', time) end
