-- Baseline run times: for each name, a number of runs and their mean in seconds.
--
-- @include numbers trouble
-- @keys baselines

local RUNS_REMEMBERED, RUNS_NEEDED = 100, 10

-- The number of runs and their mean in seconds, from a stored baseline; 0, 0 if there is none, or it is unusable.
local function read_baseline(raw)
  local runs, mean = string.match(raw or '', '^(%d+) (%S+)$')
  runs, mean = tonumber(runs), tonumber(mean)
  if runs and mean and runs <= RUNS_REMEMBERED and mean >= 0 and mean <= MAX_SECONDS then return runs, mean end
  return 0, 0
end

local baselines_found = {}

-- The mean run time of a name in seconds, or false if too few runs are known.
local function baseline_run_time(name)
  if baselines_found[name] == nil then
    local runs, mean = read_baseline(attempt('HGET', keys.baselines, name))
    baselines_found[name] = runs >= RUNS_NEEDED and mean
  end
  return baselines_found[name]
end
