-- Run times, for the baselines.
--
-- @include numbers tables trouble baseline work
-- @keys baselines
-- @options failure_ttl

local run_times

do
  local sums = {} -- task name -> {runs, seconds in all}

  local function note(name, seconds)
    local sum = sums[name]
    if sum then
      sum[1], sum[2] = sum[1] + 1, sum[2] + seconds
    else
      sums[name] = { 1, seconds }
      will_write(TO_WRITE.name)
    end
  end

  -- Adds the run times to the baselines: means in which the latest RUNS_REMEMBERED runs count most.
  local function write()
    for name, sum in pairs(sums) do
      local number, mean = read_baseline(attempt('HGET', keys.baselines, name))
      number = math.min(RUNS_REMEMBERED, number + sum[1])
      mean = mean + (math.min(MAX_SECONDS, sum[2] / sum[1]) - mean) * math.min(1, sum[1] / number)
      set_field('baselines', keys.baselines, name, string.format('%d %.6f', number, mean))
    end
    if next(sums) then attempt('EXPIRE', keys.baselines, options.failure_ttl) end
  end

  run_times = { note = note, write = write }
end
