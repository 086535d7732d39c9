-- Enters a new instance. Each start gets a token of its own, higher than all before: the fencing token that later
-- calls are checked against.
--
-- KEYS[1] leases      zset    token of a living instance -> end of its lease, ms since the epoch
-- KEYS[2] tokens      string  the last token given out
-- KEYS[3] format      string  version of the layout of the keys
-- and, by prefix: ARGV[1]instance:<token>.
--
-- ARGV[1] prefix of the keys
-- ARGV[2] lease in ms
-- ARGV[3] who the instance is, as JSON
-- ARGV[4] version of the layout that the caller speaks
--
-- Returns the token, or the error FORMAT.

local format = redis.call('GET', KEYS[3])
if format and format ~= ARGV[4] then
  return redis.error_reply('FORMAT ' .. format)
end
redis.call('SET', KEYS[3], ARGV[4])
local token = redis.call('INCR', KEYS[2])
local now = redis.call('TIME')
redis.call('ZADD', KEYS[1], now[1] * 1000 + math.floor(now[2] / 1000) + tonumber(ARGV[2]), token)
redis.call('HSET', ARGV[1] .. 'instance:' .. token, 'who', ARGV[3], 'base', 0, 'seen', now[1] * 1000)
return token
