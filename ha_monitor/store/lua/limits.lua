-- How long an open task may stay in its phase.
--
-- @include phases baseline
-- @option limits  {sent, received, started = ms that a task may stay in the phase, 0 for no limit; run_time_factor =
--         above 0, a run may take so many times the baseline of its name instead of `started`; least_run_time = ms that
--         it may take at least in this case; tasks = {{pattern = a Lua pattern, sent, received, started}, …}: the first
--         that matches a name overrides all this, for the phases that it names}

local PHASES = { SENT_PHASE, RECEIVED_PHASE, STARTED_PHASE }
local limits = options.limits
local own_found = {}

local function own_limits(name)
  if own_found[name] == nil then
    own_found[name] = false
    for _, own in ipairs(limits.tasks) do
      if string.match(name, own.pattern) then
        own_found[name] = own
        break
      end
    end
  end
  return own_found[name]
end

-- How many ms a task may stay in a phase, or nil for no limit.
local function limit_of(name, phase)
  local own = name and own_limits(name)
  local limit = own and own[phase]
  if not limit and name and phase == STARTED_PHASE and limits.run_time_factor > 0 then
    local mean = baseline_run_time(name)
    limit = mean and math.max(limits.least_run_time, limits.run_time_factor * mean * 1000)
  end
  limit = limit or limits[phase]
  return limit > 0 and limit or nil
end

-- After how many ms to look at a task again, since it may be in any phase by then. Nil if it has no limit at all.
local function least_limit(name)
  local least = nil
  for _, phase in ipairs(PHASES) do
    local limit = limit_of(name, phase)
    if limit and (least == nil or limit < least) then least = limit end
  end
  return least
end
