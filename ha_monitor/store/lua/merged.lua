-- What all instances together have merged. Put in front of the scripts that must not judge by what is on its way.

local MERGE_GRACE = 1000 -- ms

-- Until when (ms) all instances have merged what they were given; nil while more of it may come again: of an instance
-- that vanished, or of one that handed its messages back.
--
-- leases, takeovers, returned: keys as in losses.lua; held: ms for which the broker may keep messages of an instance
-- that vanished.
local function merged_by_all(leases, takeovers, returned, prefix, held, now)
  local least = now
  for _, token in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
    least = math.min(least, tonumber(unless_foreign('HGET', prefix .. 'instance:' .. token, 'merged') or 0) or 0)
  end
  local latest = latest_takeover(takeovers)
  local again = latest and latest + held or 0
  again = math.max(again, tonumber(attempt('GET', returned) or nil) or 0)
  return least >= again + MERGE_GRACE and least or nil
end
