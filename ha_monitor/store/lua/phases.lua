-- What an open task waits for, and for how long it may. Put behind record.lua and tables.lua.
--
-- The limits, as store/stuck.py sends them: {sent, received, started, factor, least, {{pattern, sent, received,
-- started}, …}}. The first three are ms, 0 for never. With a factor above 0, a run may take so many times the usual run
-- time of its name instead, but `least` ms in any case. The first pattern (Lua's) that matches a name comes before all
-- that; what it leaves open is false.
--
-- The usual run times are a hash: task name -> "<runs> <mean in seconds>"; see note_run_times.

local SENT_PHASE, RECEIVED_PHASE, STARTED_PHASE = 'sent', 'received', 'started'
local LIMIT_INDEX = { [SENT_PHASE] = 1, [RECEIVED_PHASE] = 2, [STARTED_PHASE] = 3 }
local RUNS_REMEMBERED, RUNS_NEEDED = 100, 10

-- The phase of an open task, and since when it could have left it, in µs: before its eta it cannot. Nil if it is
-- finished, or if nothing tells where it is. The phases follow from the facts as record.py derives the state, but a
-- task that was received once more after its last start waits to be started.
local function phase_of(facts)
  if facts.tk ~= nil then
    return nil
  end
  local closed = (facts.xc or 0) + (facts.jc or 0)
  local started, received, due = facts.sl or -1, facts.rl or -1, facts.e or -1
  if (facts.sc or 0) > closed and started >= received then
    return STARTED_PHASE, started
  elseif (facts.rc or 0) > closed then
    return RECEIVED_PHASE, math.max(received, due)
  elseif (facts.sc or 0) > closed then
    return STARTED_PHASE, started
  elseif closed > 0 or facts.st then
    return SENT_PHASE, math.max(facts.st or -1, facts.xl or -1, received, started, due)
  end
  return nil
end

-- What tells one stay in a phase from another.
local function stay_of(phase, since)
  return phase .. ' ' .. string.format('%.0f', since)
end

local patterns_found = {}

local function own_limits(limits, name)
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

-- Runs and their mean in seconds, as a usual run time is kept; {0, 0} if nothing usable is.
local function read_usual(raw)
  local runs, mean = string.match(raw or '', '^(%d+) (%S+)$')
  runs, mean = tonumber(runs), tonumber(mean)
  if runs and mean and runs <= RUNS_REMEMBERED and mean >= 0 and mean <= MOST_SECONDS then return runs, mean end
  return 0, 0
end

local usual_found = {}

-- The mean run time of a name in seconds, or false if too few runs are known.
local function usual_run_time(key, name)
  if usual_found[name] == nil then
    local runs, mean = read_usual(attempt('HGET', key, name))
    usual_found[name] = runs >= RUNS_NEEDED and mean
  end
  return usual_found[name]
end

-- How many ms a task may stay in a phase, or nil for as long as it likes. usual: the key of the usual run times.
local function limit_of(limits, usual, name, phase)
  local index = LIMIT_INDEX[phase]
  local own = name and own_limits(limits, name)
  local limit = own and own[index]
  if not limit and name and phase == STARTED_PHASE and limits[4] > 0 then
    local mean = usual_run_time(usual, name)
    limit = mean and math.max(limits[5], limits[4] * mean * 1000)
  end
  limit = limit or limits[index]
  return limit > 0 and limit or nil
end

-- After how many ms a task is to be looked at again: it may be in any phase by then. Nil if it has no limit at all.
local function least_limit(limits, usual, name)
  local least = nil
  for phase in pairs(LIMIT_INDEX) do
    local limit = limit_of(limits, usual, name, phase)
    if limit and (least == nil or limit < least) then least = limit end
  end
  return least
end

-- Adds run times to what is usual. A mean in which the latest RUNS_REMEMBERED runs count most.
-- sums: task name -> {runs, seconds in all}.
local function note_run_times(key, sums, ttl)
  for name, sum in pairs(sums) do
    local runs, mean = read_usual(attempt('HGET', key, name))
    runs = math.min(RUNS_REMEMBERED, runs + sum[1])
    mean = mean + (math.min(MOST_SECONDS, sum[2] / sum[1]) - mean) * math.min(1, sum[1] / runs)
    set_field('usual', key, name, string.format('%d %.6f', runs, mean))
  end
  if next(sums) then attempt('EXPIRE', key, ttl) end
end

-- Forgets tasks that have left the phase in which they were found stuck or orphaned.
local function forget_found(stuck, orphaned, uuids)
  for _, key in ipairs({ stuck, orphaned }) do
    if redis.call('EXISTS', key) == 1 then
      for start = 1, #uuids, PUSH_AT_ONCE do
        attempt('HDEL', key, unpack(uuids, start, math.min(start + PUSH_AT_ONCE - 1, #uuids)))
      end
    end
  end
end
