-- Tasks that a worker may have left unfinished: tasks that another worker received or started while they were not
-- closed on the one before, and tasks that were open on a worker that was lost. '<bytes of the
-- nodename>:<nodename><task id>' -> when that was found, in ms since the epoch. So the fate of a lost worker's tasks
-- can be told without reading all records.
--
-- A task that was retried may be among them if its events came out of order; its record shows that. The newest
-- MAX_ABANDONED are kept, for KEPT.
--
-- The second index has the runs that were cut short: '<mark><bytes of the nodename>:<nodename><start in µs>:<task id>'
-- -> when that was found. A run has the mark TAKEN when another worker took its task, and LOST once its worker was lost
-- at about the time when it was taken, or during the run. So a task that two workers were lost with is known, whatever
-- else became of it. Runs are told apart by their start, so each counts once, however often it is found, and a worker
-- that is lost twice during one run counts as lost once. The newest MAX_LOST_RUNS are kept, for KEPT.
--
-- @include clock generated/catalogue pieces trouble work
-- @keys abandoned lost_runs

local abandoned

do
  local MAX_ABANDONED, SWEPT = 10000, 100 -- entries; entries that one call sweeps
  local MAX_LOST_RUNS, AT_ONCE = 2000, 500 -- entries; latest entries that one call checks
  local KEPT = 86400000 -- ms
  local TAKEN, LOST = '?', '!'
  local CONFIRMED_WITHIN = 600000 -- ms after which a taken run is no longer checked
  -- ms for which a worker may still be heard of after another one took its task: their events come in any order
  local HEARD_AFTER = 10000
  local entered, cut_short, confirmed = {}, {}, {}

  local function enter(worker, uuid)
    entered[#entered + 1] = string.format('%.0f', now)
    entered[#entered + 1] = #worker .. ':' .. worker .. uuid
    will_write(TO_WRITE.index)
  end

  local function enter_run(mark, worker, started, uuid)
    cut_short[#cut_short + 1] = string.format('%.0f', now)
    cut_short[#cut_short + 1] = string.format('%s%d:%s%.0f:%s', mark, #worker, worker, started, uuid)
    will_write(TO_WRITE.index)
  end

  -- A task is open on a worker that was lost. started: when its run began, in µs; nil if it is not running.
  local function enter_lost(worker, uuid, started)
    enter(worker, uuid)
    if started then enter_run(LOST, worker, started, uuid) end
  end

  -- A worker received or started a task that another one had, by a fact that is not yet merged.
  local function note(uuid, facts, fact)
    if fact[3] < math.max(facts.rl or 0, facts.sl or 0) then
      enter(fact[4], uuid) -- it came late: the other one has it
      if fact[2] == STARTED then enter_run(TAKEN, fact[4], fact[3], uuid) end
    elseif not facts.tk then
      local closed = (facts.xc or 0) + (facts.jc or 0)
      local is_started = (facts.sc or 0) > closed
      if (facts.rc or 0) > closed or is_started then enter(facts.w, uuid) end
      if is_started and facts.sl >= (facts.rl or 0) then enter_run(TAKEN, facts.w, facts.sl, uuid) end
    end
  end

  -- Marks the runs that were taken from workers that are now lost, among those found lately.
  --
  -- heard_before: a function of a nodename; when that worker was last heard of in ms if it is lost, else nil.
  local function confirm(heard_before)
    local earliest = string.format('%.0f', math.max(0, now - CONFIRMED_WITHIN))
    local some = attempt('ZREVRANGEBYSCORE', keys.lost_runs, '+inf', earliest, 'WITHSCORES', 'LIMIT', 0, AT_ONCE) or {}
    for index = 1, #some, 2 do
      local run, at = some[index], some[index + 1]
      local size, rest = string.match(run, '^%?(%d+):(.*)$')
      local heard = size and heard_before(string.sub(rest, 1, tonumber(size)))
      if heard and tonumber(at) >= heard - HEARD_AFTER then
        cut_short[#cut_short + 1] = at
        cut_short[#cut_short + 1] = LOST .. string.sub(run, 2)
        confirmed[#confirmed + 1] = run
      end
    end
  end

  local function write_runs()
    if #cut_short == 0 then return end
    in_pieces(cut_short, 2 * PUSH_AT_ONCE, function(...) attempt('ZADD', keys.lost_runs, 'NX', ...) end)
    in_pieces(confirmed, PUSH_AT_ONCE, function(...) attempt('ZREM', keys.lost_runs, ...) end)
    local over = (attempt('ZCARD', keys.lost_runs) or 0) - MAX_LOST_RUNS
    if over > 0 then attempt('ZREMRANGEBYRANK', keys.lost_runs, 0, over - 1) end
  end

  local function write()
    write_runs()
    if #entered == 0 then return end
    in_pieces(entered, 2 * PUSH_AT_ONCE, function(...) attempt('ZADD', keys.abandoned, 'NX', ...) end)
    local over = (attempt('ZCARD', keys.abandoned) or 0) - MAX_ABANDONED
    if over > 0 then attempt('ZREMRANGEBYRANK', keys.abandoned, 0, over - 1) end
  end

  -- Deletes some entries that were found long ago.
  local function sweep()
    local latest = string.format('%.0f', math.max(0, now - KEPT))
    for _, key in ipairs({ keys.abandoned, keys.lost_runs }) do
      local old = attempt('ZRANGEBYSCORE', key, '-inf', latest, 'LIMIT', 0, SWEPT) or {}
      in_pieces(old, PUSH_AT_ONCE, function(...) attempt('ZREM', key, ...) end)
    end
  end

  abandoned = { enter_lost = enter_lost, note = note, confirm = confirm, write = write, sweep = sweep }
end
