-- Enters a new instance. Each start gets a token of its own, higher than all before: the fencing token that later
-- calls are checked against.
--
-- @include clock looks numbers rollback takeovers tokens trouble
-- @keys leases format tokens errors_since
-- @families instance
-- @option lease  ms
-- @option who  who the instance is, as JSON
-- @option last_token  the token that the caller had before, as text; '0' if none
-- @option unused  the token of an attempt before that no replica has confirmed, as text; '0' if there was none
-- @options calls first_look
-- @option format  version of the layout of the keys that the caller speaks, as text
--
-- Returns {the token, in ms since the epoch or a little above, when the store was last found to have gone back, and
-- where this call has found it, what is to be told of that}, or the error FORMAT.

local format = redis.call('GET', keys.format)
-- What is no number is of no version.
if format and format ~= options.format and string.match(format, '^%d+$') then
  return redis.error_reply('FORMAT ' .. keys.format .. ' ' .. string.sub(format, 1, 20))
end
redis.call('SET', keys.format, options.format)

-- A store that has given out no token as high does not know of the caller any more. One that knew of fewer calls when
-- the caller was taken over has lost the rest.
local function told_of_rollback()
  local last = number_in(unless_foreign('GET', keys.tokens) or '', MOST_TOKEN) or 0
  if last < tonumber(options.last_token) then return rollback.note(nil, 0) end
  local takeover = takeovers.of(options.last_token)
  -- An earlier version did not count them.
  if not takeover or type(takeover.calls) ~= 'number' then return nil end
  local lost = options.calls - clamped(takeover.calls, MOST_COUNT)
  return lost > 0 and rollback.note(clamped(takeover.seen, MOST_TIME), lost) or nil
end

-- With that entry nothing was done: there is nothing to take over.
local function forget_unused(token)
  local instance = families.instance .. token
  if unless_foreign('HLEN', instance) and redis.call('HEXISTS', instance, 'calls') == 0 then
    redis.call('DEL', instance)
    redis.call('ZREM', keys.leases, token)
  end
end

local told = told_of_rollback()
forget_unused(options.unused)
-- In a store that was empty every error is new, which is no news (store/error_groups.py).
redis.call('SET', keys.errors_since, now, 'NX')
local token = new_token()
-- Until now it was given nothing. Who reads `open` needs to know how far ahead of the tasks their first looks are.
redis.call('HSET', families.instance .. token, 'who', options.who, 'behind', 0, 'seen', now, 'merged', now, 'lease',
  options.lease, 'first_look', math.min(options.first_look or LONGEST_LOOK, LONGEST_LOOK))
redis.call('ZADD', keys.leases, now + options.lease, token)
return { tonumber(token), rollback.at(), told }
