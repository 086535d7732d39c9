-- What came into each queue and left it, by minute. Counted in the call that merges the events, so that each event
-- counts once.
--
-- A hash for each queue and hour, `<hour since the epoch>:<queue>`, has a field for each minute in which something
-- happened: four doubles.
--   1  tasks that came: tasks sent, in the minute in which they could start (a later eta), and tasks that were requeued
--   2  tasks that left: each start, and the end of a task that was never started
--   3  ends that count and whose run time is known
--   4  the sum of these run times in ms
-- All but the tasks sent follow from the task's record before and after a call: if an event changes the queue of a run,
-- its count is moved. If a record has forgotten a run, its count stays.
--
-- They are kept for KEPT hours, for the queues that have a number (waits.lua). An invalid time, and a start or end in
-- the future, count as now; an eta further ahead than KEPT is not counted.
--
-- @include by_minute clock generated/catalogue index/waits numbers steps trouble work
-- @families flow

local flow

do
  local KEPT = 3 -- hours
  local CAME, LEFT, ENDED, TOOK = 1, 2, 3, 4
  local FORMAT, SIZE = '>dddd', 32
  local HOUR, MINUTE = 3600000000, 60000000 -- µs
  local floor = math.floor
  local cells = {} -- queue -> minute since the epoch -> {how much to add to each}
  local last_queue, last_from, last_to, last_cell -- the latest cell and its minute, since the next is often the same
  local latest = now * 1000
  local earliest = latest - KEPT * HOUR

  local function cell_of(queue, at)
    local minutes = cells[queue]
    if not minutes then
      minutes = {}
      cells[queue] = minutes
    end
    local minute = floor(at / MINUTE)
    local cell = minutes[minute]
    if not cell then
      cell = { 0, 0, 0, 0 }
      minutes[minute] = cell
      will_write(TO_WRITE.name)
    end
    last_queue, last_from, last_to, last_cell = queue, minute * MINUTE, (minute + 1) * MINUTE, cell
    return cell
  end

  local function add(queue, at, what, by)
    if at <= 0 then at = latest end
    if at < earliest then return end
    local cell = last_cell
    if queue ~= last_queue or at < last_from or at >= last_to then cell = cell_of(queue, at) end
    cell[what] = cell[what] + by
  end

  local function add_past(queue, at, what, by)
    add(queue, at < latest and at or latest, what, by)
  end

  -- A task was sent: the fact of a new event that names its queue. at: when, in µs, by Redis's clock if the sender's is
  -- wrong.
  local function note_sent(fact, at)
    local due = fact[6] and fact[6].e
    if due and due > at then at = due end
    if at < latest + KEPT * HOUR then add(fact[8], at, CAME, 1) end
  end

  -- What left and what came back, for a task with several attempts: time -> queue; the time is negative if it came
  -- back. Then when the task ended without a start.
  local function moves_of(facts)
    local moves, runs = {}, steps.runs(facts)
    for _, run in ipairs(runs) do
      local entry = run[3] and facts.at[run[3]]
      moves[run[1]] = entry and entry[2] or facts.q or nil
    end
    for _, closing in ipairs(facts.cl or {}) do
      if closing[3] == REQUEUED then moves[-closing[1]] = facts.q or nil end
    end
    return moves, #runs == 0 and facts.tk and facts.tt or nil
  end

  -- The state before the merge: the queue; when the only run began, or when the task ended without one; the moves of
  -- several attempts; the end without a start; the end, and how long its run took.
  local queue, left, moves, unstarted, ended_at, took

  -- How long the run took that ended a task, in ms; nil if it is not known.
  local function time_of_run(facts)
    local seconds = facts.rt
    if not seconds and facts.tk == FAILED and facts.sl and facts.sl < facts.tt then
      seconds = (facts.tt - facts.sl) / 1000000
    end
    return seconds and floor(clamped(seconds, MAX_SECONDS) * 1000 + 0.5)
  end

  -- Called before a task's events are merged.
  local function remember(facts)
    queue, ended_at, moves, unstarted = facts.q, facts.tt, nil, nil
    left = facts.sl or ended_at
    took = ended_at and time_of_run(facts)
    if facts.at then moves, unstarted = moves_of(facts) end
  end

  -- Moves a count to another queue and time. Nil stands for something that was not, or is not, counted.
  local function move(from, before, to, after, what)
    if from == to and before == after then return end
    if from and before then add_past(from, before, what, -1) end
    if to and after then add_past(to, after, what, 1) end
  end

  local function note_moves(facts)
    local before, unstarted_before = moves or {}, unstarted
    if not moves then
      if left == ended_at then unstarted_before = left elseif queue then before[left] = queue end
    end
    local after, unstarted_now = moves_of(facts)
    for at, where in pairs(after) do move(before[at], math.abs(at), where, math.abs(at), at < 0 and CAME or LEFT) end
    move(queue, unstarted_before, facts.q, unstarted_now, LEFT)
  end

  -- Called after they are merged.
  local function note(facts)
    local queue_now, ended_now = facts.q, facts.tt
    if facts.at then
      note_moves(facts)
    elseif queue_now or queue then
      move(queue, left, queue_now, facts.sl or ended_now, LEFT)
    end
    if not ended_now or not (queue_now or queue) then return end
    local took_now = time_of_run(facts)
    if queue == queue_now and ended_at == ended_now and took == took_now then return end
    if queue and took then
      add_past(queue, ended_at, ENDED, -1)
      add_past(queue, ended_at, TOOK, -took)
    end
    if queue_now and took_now then
      add_past(queue_now, ended_now, ENDED, 1)
      add_past(queue_now, ended_now, TOOK, took_now)
    end
  end

  local function write_cell(name, minute, more)
    local key, field = by_minute.key_of(families.flow, name, floor(minute / 60)), string.format('%d', minute % 60)
    local text = by_minute.cell_in(key, field)
    text = text and #text == SIZE and text
    if text then
      local before = { struct.unpack(FORMAT, text) }
      for what = CAME, TOOK do
        local sum = before[what] + more[what]
        if sum > -MAX_COUNT and sum < MAX_COUNT then more[what] = sum end
      end
    elseif not waits.number_of(name) then
      return
    end
    attempt('HSET', key, field, struct.pack(FORMAT, unpack(more)))
    if not text then attempt('EXPIRE', key, (2 * KEPT + 1) * 3600) end
  end

  -- Writes the counts, after the records.
  local function write()
    for name, minutes in pairs(cells) do
      for minute, more in pairs(minutes) do
        if more[CAME] ~= 0 or more[LEFT] ~= 0 or more[ENDED] ~= 0 or more[TOOK] ~= 0 then
          write_cell(name, minute, more)
        end
      end
    end
  end

  flow = { note_sent = note_sent, remember = remember, note = note, write = write }
end
