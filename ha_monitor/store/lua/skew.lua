-- Workers whose clocks are wrong, as the leader has found out (watch.lua).
--
-- @include stored trouble
-- @keys skewed

local WRONG_CLOCK = 60000 -- ms from which on a clock is called wrong

-- By how many ms a worker's clock is behind Redis's (negative: ahead); nil if it is about right. Then whether anything
-- is kept of it, which may be broken.
local function known_skew(name)
  local text = attempt('HGET', keys.skewed, name)
  if not text then return nil, false end
  local skew = tonumber(text)
  if skew and math.abs(skew) < 1e13 then return math.floor(skew), true end
  refused(keys.skewed, BROKEN)
  return nil, true
end
