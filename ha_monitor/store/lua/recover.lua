-- Moves the caller's entry and outbox to a new token after a broken connection. A call that was in flight on the old
-- connection may still arrive at any later time; it carries the old token and is refused. Repeating this script with
-- the old token gives LEASELOST: what it moved is then taken over when the new token's lease expires.
--
-- @include clock lease outbox server stored tokens trouble
-- @keys leases instance outbox
-- @families instance outbox
-- @options token lease calls
--
-- Returns {new token, sequence number of the first entry, entries, sequence number below which they may have been
-- announced before, {JSON of each outbox taken over of which the caller has no reply}, since when the fleet uses this
-- Redis (server.lua)}, or the error LEASELOST.

-- What the latest tick that took something over has told of it, if its reply was lost.
local function unconfirmed_takeovers()
  local taken, call = load_packed(keys.instance, unless_foreign('HGET', keys.instance, 'took'))
  return type(call) == 'number' and call > options.calls and taken or {}
end

return holding_lease(function()
  begin()
  local first = trim()
  local recovered = stored_number(keys.instance, unless_foreign('HGET', keys.instance, 'recovered')) or 0
  local taken, since = unconfirmed_takeovers(), served_since()
  local token = new_token()
  local instance, outbox = families.instance .. token, families.outbox .. token
  -- If this fails in between, the moved outbox is taken over when the new lease expires.
  redis.call('ZADD', keys.leases, now + options.lease, token)
  if redis.call('EXISTS', keys.outbox) == 1 then
    redis.call('RENAME', keys.outbox, outbox)
  end
  if redis.call('EXISTS', keys.instance) == 1 then
    redis.call('RENAME', keys.instance, instance)
    redis.call('HSET', instance, 'before', options.token)
  end
  redis.call('ZREM', keys.leases, options.token)
  return { tonumber(token), first, redis.call('LRANGE', outbox, 0, -1), recovered, taken, since }
end)
