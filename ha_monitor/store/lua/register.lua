-- Enters a new instance. Each start gets a token of its own, higher than all before: the fencing token that later
-- calls are checked against. It is a time, so that it is a new one even if Redis lost its data: an instance that had
-- the token 1 before must not take itself for the one that has it now.
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
-- Returns the token, in ms since the epoch or a little above, or the error FORMAT.

local format = redis.call('GET', KEYS[3])
if format and format ~= ARGV[4] then
  return redis.error_reply('FORMAT ' .. format)
end
redis.call('SET', KEYS[3], ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local token = math.max(tonumber(redis.call('GET', KEYS[2]) or '0') + 1, now)
redis.call('SET', KEYS[2], token)
redis.call('HSET', ARGV[1] .. 'instance:' .. token, 'who', ARGV[3], 'behind', 0, 'seen', now)
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), token)
return token
