-- What all instances together have merged, for scripts that must not act while an event may be in flight.
--
-- @include clock stored takeovers trouble
-- @keys leases requeued
-- @families instance
-- @option requeue_delay  ms for which the broker may keep messages of an instance that vanished

local MERGE_GRACE = 1000 -- ms

-- The time in ms until which all instances have merged what they received; nil while messages may be redelivered: those
-- of an instance that vanished, or that were requeued.
local function merged_by_all()
  local least = now
  for _, token in ipairs(redis.call('ZRANGE', keys.leases, 0, -1)) do
    local instance = families.instance .. token
    local merged = stored_time(instance, unless_foreign('HGET', instance, 'merged')) or 0
    -- A time in the future is from before Redis's clock was put back.
    least = math.min(least, merged <= now and merged or 0)
  end
  local latest = takeovers.latest()
  local again = latest and latest + options.requeue_delay or 0
  again = math.max(again, stored_time(keys.requeued, attempt('GET', keys.requeued)) or 0)
  return least >= again + MERGE_GRACE and least or nil
end
