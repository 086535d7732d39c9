-- Enters a new instance. Each start gets a token of its own, higher than all before: the fencing token that later
-- calls are checked against. It is a time, so that it is a new one even if Redis lost its data: an instance that had
-- the token 1 before must not take itself for the one that has it now.
--
-- @include clock
-- @keys leases tokens format
-- @families instance
-- @option lease  ms
-- @option who  who the instance is, as JSON
-- @option format  version of the layout of the keys that the caller speaks, as text
--
-- Returns the token, in ms since the epoch or a little above, or the error FORMAT.

local format = redis.call('GET', keys.format)
if format and format ~= options.format then
  return redis.error_reply('FORMAT ' .. format)
end
redis.call('SET', keys.format, options.format)
local token = math.max(tonumber(redis.call('GET', keys.tokens) or '0') + 1, now)
redis.call('SET', keys.tokens, token)
redis.call('HSET', families.instance .. token, 'who', options.who, 'behind', 0, 'seen', now)
redis.call('ZADD', keys.leases, now + options.lease, token)
return token
