-- Registers an instance. Each start gets a token of its own, higher than all before: the fencing token that checks its
-- later calls.
--
-- @include clock looks numbers rollback server takeovers tokens trouble
-- @keys leases format errors_since
-- @families instance
-- @option lease  ms
-- @option who  who the instance is, as JSON
-- @option last_token  the caller's token before, as text; '0' if none
-- @option unused  the token of an earlier attempt that no replica has confirmed, as text; '0' if there was none
-- @options calls first_look
-- @option format  version of the layout of the keys that the caller uses, as text
--
-- Returns {the token, as a time in ms since the epoch or a little later, since when the fleet uses this Redis
-- (server.lua), when the store was last found to have gone back and, if this call found it, what to report about it},
-- or the error FORMAT.

local format = redis.call('GET', keys.format)
-- A value that is not a number names no version.
if format and format ~= options.format and string.match(format, '^%d+$') then
  return redis.error_reply('FORMAT ' .. keys.format .. ' ' .. string.sub(format, 1, 20))
end
redis.call('SET', keys.format, options.format)

-- A store whose last token is lower than the caller's has forgotten the caller. A store that knew of fewer calls when
-- the caller was taken over has lost the rest.
local function rollback_report()
  local last = last_token()
  if last < tonumber(options.last_token) then return rollback.note(nil, 0) end
  local takeover = takeovers.of(options.last_token)
  -- An earlier version did not count calls.
  if not takeover or type(takeover.calls) ~= 'number' then return nil end
  local lost = options.calls - clamped(takeover.calls, MAX_COUNT)
  return lost > 0 and rollback.note(clamped(takeover.seen, MAX_TIME), lost) or nil
end

-- Nothing was done with that entry, so there is nothing to take over.
local function forget_unused(token)
  local instance = families.instance .. token
  if unless_foreign('HLEN', instance) and redis.call('HEXISTS', instance, 'calls') == 0 then
    redis.call('DEL', instance)
    redis.call('ZREM', keys.leases, token)
  end
end

local report, since = rollback_report(), served_since()
forget_unused(options.unused)
-- In a store that was empty every error would be new, so none is reported as new (store/error_groups.py).
redis.call('SET', keys.errors_since, now, 'NX')
local token = new_token()
-- It has received nothing until now. Readers of `open` need to know how long after its start a task is first looked at.
redis.call('HSET', families.instance .. token, 'who', options.who, 'behind', 0, 'seen', now, 'merged', now, 'lease',
  options.lease, 'first_look', math.min(options.first_look or MAX_FIRST_LOOK, MAX_FIRST_LOOK))
redis.call('ZADD', keys.leases, now + options.lease, token)
return { tonumber(token), since, rollback.at(), report }
