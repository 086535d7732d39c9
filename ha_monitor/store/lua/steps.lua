-- The steps of a task that has more than one run (runs.lua), and the runs that follow from them.
--
--   rs  the steps: {time, worker, attempt} for each receipt, {time, worker} for each start, in the order of time.
--       `worker` is a number made from the nodename.
--   cl  what closed a run: {time, worker, code} for each end, retry and requeue, in the order of time
--
-- Each list keeps the MAX_STEPS latest steps; when it is full, the worker with the most steps loses its earliest,
-- since the clocks of different workers cannot be compared.
--
-- @include generated/catalogue

local steps = {}

do
  local MAX_STEPS = 32
  local NONE = {}
  local ENDS = EVENTS.ends
  local ENDS_A_RUN = { [SUCCEEDED] = true, [FAILED] = true }
  local marks = {}

  function steps.mark_of(worker)
    local mark = marks[worker]
    if not mark then
      mark = tonumber(string.sub(redis.sha1hex(worker), 1, 4), 16)
      marks[worker] = mark
    end
    return mark
  end

  -- A start comes after a receipt of the same time.
  local function is_behind(a, b)
    if a[1] ~= b[1] then return a[1] > b[1] end
    if (a[3] == nil) ~= (b[3] == nil) then return a[3] == nil end
    if a[2] ~= b[2] then return a[2] > b[2] end
    return (a[3] or 0) > (b[3] or 0)
  end

  -- Removes the earliest step of the worker with the most steps from a list.
  local function shorten(list)
    local count, most = {}, nil
    for _, step in ipairs(list) do count[step[2]] = (count[step[2]] or 0) + 1 end
    for mark, number in pairs(count) do
      if most == nil or number > count[most] or (number == count[most] and mark > most) then most = mark end
    end
    for index, step in ipairs(list) do
      if step[2] == most then return table.remove(list, index) end
    end
  end

  local known, known_of -- the runs found last, and the facts in which they were found
  local run_ended_by = {} -- closing -> the run that it ended; nil if the start is not known
  local retry_in = {} -- closing -> the series of the retry, and which of its retries it is; nil if no start is known
  local not_begun = {} -- mark -> attempt -> when it was received

  -- Adds a step to a list of a task's facts.
  function steps.add(list, step)
    known_of = nil
    local index = #list
    while index > 0 and is_behind(list[index], step) do index = index - 1 end
    table.insert(list, index + 1, step)
    if #list > MAX_STEPS then shorten(list) end
  end

  -- Changes the time of a closing.
  function steps.move_closing(closings, from, code, to)
    for index, closing in ipairs(closings) do
      if closing[1] == from and closing[3] == code then
        table.remove(closings, index)
        steps.add(closings, { to, closing[2], code })
        return
      end
    end
  end

  -- The attempts of a task have changed.
  function steps.forget_runs()
    known_of = nil
  end

  -- An end belongs to the latest start of its worker that has no other end. Starts of earlier attempts were retried.
  local function end_run(closing, open)
    local run = table.remove(open)
    if not run then return end
    run[6] = true
    run_ended_by[closing] = run
    for index = #open, 1, -1 do
      if (open[index][3] or 0) < (run[3] or 0) then table.remove(open, index) end
    end
  end

  -- worker: its runs without an end, and its latest series of attempts, up to an end of its own; nil if it began none.
  local function close(closing, worker)
    if not worker or not worker.series then return end
    local code, series = closing[3], worker.series
    if ENDS_A_RUN[code] then end_run(closing, worker.open) end
    if code == RETRIED then
      series.retries = series.retries + 1
      retry_in[closing] = { series, series.retries }
    elseif ENDS[code] then
      series.is_ended = true
    end
  end

  -- Adds a run to those of its worker. After an end, a new series of attempts begins.
  local function open_run(run, worker)
    if not worker.series or worker.series.is_ended then
      worker.series = { runs = {}, retries = 0, is_ended = false }
    end
    table.insert(worker.series.runs, run)
    table.insert(worker.open, run)
  end

  -- The run of a start. waiting: attempts that the worker has received and not begun.
  local function begin_run(at, mark, waiting, begun)
    local first, last = nil, nil
    for number in pairs(waiting) do
      if not begun[number] and (first == nil or number < first) then first = number end
      if last == nil or number > last then last = number end
    end
    local attempt = first or last
    local other = last ~= attempt and not begun[last] and last
    local run = { at, mark, attempt, attempt and waiting[attempt], other }
    if attempt then begun[attempt], waiting[attempt] = true, nil end
    return run
  end

  -- {{time, worker, attempt or nil, when it was received or nil, attempt or false, whether its end is known}, …} in the
  -- order of time. Without an attempt, the receipt before that start is not known yet. The second attempt is what the
  -- start may turn out to belong to, if a start of the first is still to come.
  function steps.runs(facts)
    if known_of == facts then return known end
    local begun, workers = {}, {}
    known, known_of, run_ended_by, retry_in, not_begun = {}, facts, {}, {}, {}
    -- If the task has not ended, no run has an end.
    local closings, index = facts.tk and facts.cl or NONE, 1
    for _, step in ipairs(facts.rs) do
      local at, mark, number = step[1], step[2], step[3]
      while closings[index] and closings[index][1] < at do
        close(closings[index], workers[closings[index][2]])
        -- After an end, attempts are numbered anew.
        if ENDS[closings[index][3]] then begun = {} end
        index = index + 1
      end
      local waiting = not_begun[mark]
      if not waiting then
        waiting = {}
        not_begun[mark], workers[mark] = waiting, { open = {} }
      end
      if number then
        waiting[number] = at
      else
        local run = begin_run(at, mark, waiting, begun)
        known[#known + 1] = run
        open_run(run, workers[mark])
      end
    end
    for rest = index, #closings do close(closings[rest], workers[closings[rest][2]]) end
    return known
  end

  -- What a worker's event at a time has added to `cl`, or nil.
  local function closing_at(facts, code, at, mark)
    for _, closing in ipairs(facts.cl or NONE) do
      if closing[1] == at and closing[2] == mark and closing[3] == code then return closing end
    end
    return nil
  end

  -- The run that an end of a worker ended, or nil; and whether it was found.
  function steps.run_of_end(facts, code, at, mark)
    local closing = ENDS_A_RUN[code] and closing_at(facts, code, at, mark)
    if not closing then return nil, false end
    steps.runs(facts)
    return run_ended_by[closing], true
  end

  -- The run of a worker's retry, or nil if that cannot be told by counting. A worker may report a retry without a delay
  -- only after it has begun, or even ended the next attempt. Once it has ended one, all its earlier attempts were
  -- retried: if it has reported as many retries, the first report is of the first attempt.
  function steps.run_of_retry(facts, at, mark)
    local closing = closing_at(facts, RETRIED, at, mark)
    steps.runs(facts)
    local place = closing and retry_in[closing]
    if not place or not place[1].is_ended then return nil end
    local series, rank = place[1], place[2]
    local retried, latest = {}, {}
    for _, run in ipairs(series.runs) do
      local number = run[3]
      if not run[6] then
        if not number then return nil end
        if not latest[number] then retried[#retried + 1] = number end
        latest[number] = run
      end
    end
    if series.retries ~= #retried then return nil end
    table.sort(retried)
    return latest[retried[rank]]
  end

  -- The time of the last end before a time, since attempts and runs before it do not belong to later events; 0 if there
  -- is none. With a mark, the last end of that worker.
  function steps.end_before(facts, at, mark)
    local latest = 0
    if not facts.tk then return latest end
    local closings = facts.cl or NONE
    for index = 1, #closings do
      local closing = closings[index]
      local time = closing[1]
      if time < at and time > latest and ENDS[closing[3]] and (mark == nil or closing[2] == mark) then latest = time end
    end
    return latest
  end

  -- How often the task was retried after an end.
  function steps.retries_since(facts, ended)
    local count = 0
    for _, closing in ipairs(facts.cl or NONE) do
      if closing[3] == RETRIED and closing[1] > ended then count = count + 1 end
    end
    return count
  end

  -- The last start, and the last receipt without a start, after all ends, unless the same worker closed them: each as
  -- {time, attempt or nil, whether an earlier end is of the same worker}, or nil. Then when a run after the ends was
  -- last retried or requeued, or nil; and when the last end was.
  function steps.after_end(facts)
    local ended, again, closings = facts.tt, nil, facts.cl or NONE
    for _, closing in ipairs(closings) do
      if ENDS[closing[3]] then ended = math.max(ended, closing[1]) end
    end
    for _, closing in ipairs(closings) do
      if closing[1] > ended then again = closing[1] end
    end
    local last = facts.rs[#facts.rs]
    if not last or last[1] <= ended then return nil, nil, again, ended end
    local closed, ended_here, started, received = {}, {}, nil, nil
    for _, closing in ipairs(closings) do
      local at, mark = closing[1], closing[2]
      closed[mark] = math.max(closed[mark] or 0, at)
      if ENDS[closing[3]] then ended_here[mark] = true end
    end
    local function is_open(at, mark)
      return at > ended and at > (closed[mark] or 0)
    end
    for _, run in ipairs(steps.runs(facts)) do
      if is_open(run[1], run[2]) then started = { run[1], run[3], ended_here[run[2]] } end
    end
    for mark, waiting in pairs(not_begun) do
      for number, at in pairs(waiting) do
        if is_open(at, mark) and (received == nil or at > received[1]) then
          received = { at, number, ended_here[mark] }
        end
      end
    end
    return started, received, again, ended
  end
end
