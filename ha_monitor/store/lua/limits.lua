-- For how long an open task may wait for what it waits for.
--
-- The limits, as store/stuck.py sends them: {sent, received, started, factor, least, {{pattern, sent, received,
-- started}, …}}. The first three are ms, 0 for never. With a factor above 0, a run may take so many times the usual run
-- time of its name instead, but `least` ms in any case. The first pattern (Lua's) that matches a name comes before all
-- that; what it leaves open is false.
--
-- @include phases usual
-- @option limits  as said above

local LIMIT_INDEX = { [SENT_PHASE] = 1, [RECEIVED_PHASE] = 2, [STARTED_PHASE] = 3 }
local limits = options.limits
local patterns_found = {}

local function own_limits(name)
  if patterns_found[name] == nil then
    patterns_found[name] = false
    for _, entry in ipairs(limits[6]) do
      if string.match(name, entry[1]) then
        patterns_found[name] = { entry[2], entry[3], entry[4] }
        break
      end
    end
  end
  return patterns_found[name]
end

-- How many ms a task may stay in a phase, or nil for as long as it likes.
local function limit_of(name, phase)
  local index = LIMIT_INDEX[phase]
  local own = name and own_limits(name)
  local limit = own and own[index]
  if not limit and name and phase == STARTED_PHASE and limits[4] > 0 then
    local mean = usual_run_time(name)
    limit = mean and math.max(limits[5], limits[4] * mean * 1000)
  end
  limit = limit or limits[index]
  return limit > 0 and limit or nil
end

-- After how many ms a task is to be looked at again: it may be in any phase by then. Nil if it has no limit at all.
local function least_limit(name)
  local least = nil
  for phase in pairs(LIMIT_INDEX) do
    local limit = limit_of(name, phase)
    if limit and (least == nil or limit < least) then least = limit end
  end
  return least
end
