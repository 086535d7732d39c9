-- Enters a new instance. Each start gets a token of its own, higher than all before: the fencing token that later
-- calls are checked against.
--
-- @include clock tokens
-- @keys leases format
-- @families instance
-- @option lease  ms
-- @option who  who the instance is, as JSON
-- @option format  version of the layout of the keys that the caller speaks, as text
--
-- Returns the token, in ms since the epoch or a little above, or the error FORMAT.

local format = redis.call('GET', keys.format)
-- What is no number is of no version.
if format and format ~= options.format and string.match(format, '^%d+$') then
  return redis.error_reply('FORMAT ' .. keys.format .. ' ' .. string.sub(format, 1, 20))
end
redis.call('SET', keys.format, options.format)
local token = new_token()
-- Until now it was given nothing.
redis.call('HSET', families.instance .. token, 'who', options.who, 'behind', 0, 'seen', now, 'merged', now)
redis.call('ZADD', keys.leases, now + options.lease, token)
return tonumber(token)
