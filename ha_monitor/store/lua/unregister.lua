-- Gives up the caller's lease. Others may take over the rest of its outbox at once.
--
-- @include clock lease outbox
-- @keys leases instance outbox requeued
-- @options token requeue_delay
--
-- Returns how many entries are left to others.

-- RabbitMQ writes to its disk before it delivers the messages of a closed connection to others: that may take seconds.
local REQUEUED_WITHIN = 5000 -- ms

return holding_lease(function()
  begin()
  trim()
  -- The caller has closed its connection, so what it did not merge is requeued. Messages of other instances whose link
  -- broke may be requeued later.
  local before = redis.pcall('GET', keys.requeued)
  local later = type(before) == 'string' and tonumber(before) or 0
  local soon = now + math.max(1000, math.min(REQUEUED_WITHIN, options.requeue_delay))
  if later < soon or later > now + options.requeue_delay then
    redis.call('SET', keys.requeued, soon, 'EX', 3600)
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
