-- Times that workers gave, by Redis's clock.
--
-- @include skew

local by_own_clock

do
  local skews = {}

  -- A time in µs that a worker gave, by Redis's clock.
  function by_own_clock(name, at)
    local skew = skews[name]
    if skew == nil then
      skew = known_skew(name) or 0
      skews[name] = skew
    end
    return at + skew * 1000
  end
end
