-- Workers whose clocks are wrong, as the leader has measured (watch.lua).
--
-- @include stored trouble
-- @keys skewed

local WRONG_CLOCK = 60000 -- ms of skew from which a clock is called wrong

-- By how many ms a worker's clock is behind Redis's (negative: ahead); nil if it is about right. Then whether an entry
-- exists, which may be broken.
local function known_skew(name)
  local text = attempt('HGET', keys.skewed, name)
  if not text then return nil, false end
  local skew = tonumber(text)
  if skew and math.abs(skew) < 1e13 then return math.floor(skew), true end
  refused(keys.skewed, BROKEN)
  return nil, true
end
