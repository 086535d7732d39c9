-- Gives up the caller's lease. What is still in its outbox is free for others at once.
--
-- @include clock lease outbox
-- @keys leases instance outbox requeued
-- @options token held
--
-- Returns how many entries are left to others.

return holding_lease(function()
  begin()
  trim()
  -- What the caller was given and has not merged goes back as soon as it closes its connection.
  -- What others were given that lost their link may come later.
  local before = redis.pcall('GET', keys.requeued)
  local later = type(before) == 'string' and tonumber(before) or 0
  if later < now + 1000 or later > now + options.held then
    redis.call('SET', keys.requeued, now + 1000, 'EX', 3600)
  end
  local left = redis.call('LLEN', keys.outbox)
  if left > 0 then
    redis.call('ZADD', keys.leases, 0, options.token)
  else
    redis.call('DEL', keys.instance, keys.outbox)
    redis.call('ZREM', keys.leases, options.token)
  end
  return left
end, 0)
