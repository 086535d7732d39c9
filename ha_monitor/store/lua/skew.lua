-- Workers whose clocks are wrong, as the leader has found out (watch.lua).
--
-- @include stored trouble
-- @keys skewed

-- By how many ms a worker's clock is behind Redis's (negative: ahead); nil if it is about right.
local function known_skew(name)
  local text = attempt('HGET', keys.skewed, name)
  if not text then return nil end
  local skew = tonumber(text)
  if skew and math.abs(skew) < 1e13 then return skew end
  refused(keys.skewed, BROKEN)
  return nil
end
