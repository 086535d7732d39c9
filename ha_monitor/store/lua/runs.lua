-- Which run an event of a task belongs to, and how long that run had to wait.
--
-- A retry is a new attempt under the same id: it is sent, received and started again, perhaps with an eta and in
-- another queue. Only task-sent and task-received name the number of their attempt (`retries`, from 0). So for a task
-- that was retried, received or started more than once, or received and started by different workers, these facts are
-- kept, too:
--   at  attempt -> {when it was last sent or 0, its queue or false, its eta or 0, when the definition with the eta was
--       made or -1}
--   rs  the steps: {time, worker, attempt} for each time it was received, {time, worker} for each start, in the order
--       of time. `worker` is a number made from the nodename.
-- They commute as all facts do: the MOST_STEPS latest steps and the MOST_ATTEMPTS highest attempts are kept. Of a task
-- without them there is at most one run, of attempt 0, and the other facts say all about it.
--
-- A start belongs to the lowest attempt that its worker had received by then and that nobody had begun; if all were
-- begun (it was delivered again), to the highest. An end belongs to the latest start of its worker before it, a
-- retry to the latest of an attempt before the one that was sent. Clocks of different hosts are not compared for that.
--
-- The wait of a run is the time from when its attempt was sent (without task-sent: received), or from its eta if that
-- is later, to its start. `qw` is that of the latest start.
--
-- @include generated/catalogue numbers record

local runs = {}

do
  local MOST_STEPS, MOST_ATTEMPTS = 32, 16
  -- Events of a run that has begun; all others do not depend on a start.
  local OF_A_RUN = EVENTS.of_a_run
  local IS_STEP = { [SENT] = true, [RECEIVED] = true, [STARTED] = true, [RETRIED] = true }
  local marks = {}

  local function mark_of(worker)
    local mark = marks[worker]
    if not mark then
      mark = tonumber(string.sub(redis.sha1hex(worker), 1, 4), 16)
      marks[worker] = mark
    end
    return mark
  end

  -- A start comes behind a receipt of the same time.
  local function is_behind(a, b)
    if a[1] ~= b[1] then return a[1] > b[1] end
    if (a[3] == nil) ~= (b[3] == nil) then return a[3] == nil end
    if a[2] ~= b[2] then return a[2] > b[2] end
    return (a[3] or 0) > (b[3] or 0)
  end

  local function add_step(facts, step)
    local steps = facts.rs
    local index = #steps
    while index > 0 and is_behind(steps[index], step) do index = index - 1 end
    table.insert(steps, index + 1, step)
    if #steps > MOST_STEPS then table.remove(steps, 1) end
  end

  -- The entry of an attempt; nil if there are enough higher ones.
  local function attempt_entry(facts, number)
    local attempts = facts.at
    if not attempts[number] then
      attempts[number] = { 0, false, 0, -1 }
      local count, lowest = 0, number
      for other in pairs(attempts) do count, lowest = count + 1, math.min(lowest, other) end
      if count > MOST_ATTEMPTS then attempts[lowest] = nil end
    end
    return attempts[number]
  end

  -- Begins to tell attempts and runs apart, with what the facts say of the only ones so far.
  local function begin_steps(facts)
    facts.at, facts.rs = {}, {}
    if facts.st or facts.d then
      facts.at[0] = { facts.st or 0, facts.q or false, facts.e or 0, facts.d or -1 }
    end
    if facts.rc then add_step(facts, { facts.rl, mark_of(facts.w), 0 }) end
    if facts.sc then add_step(facts, { facts.sl, mark_of(facts.w) }) end
  end

  local function merge_attempt(facts, code, at, number, definition, queue)
    local entry = attempt_entry(facts, number)
    if not entry then return end
    if code == SENT and (at > entry[1] or (at == entry[1] and greater(queue, entry[2] or nil))) then
      entry[1], entry[2] = at, queue or false
    end
    if definition then
      local due = definition.e or 0
      if at > entry[4] then
        entry[3], entry[4] = due, at
      elseif at == entry[4] then
        entry[3] = math.max(entry[3], due)
      end
    end
  end

  local known, known_of -- the runs found last, and the facts they were found in

  -- {{time, worker, attempt or nil, when that was received or nil, attempt or false}, …} in the order of time. Without
  -- an attempt, the receipt of that start is not known yet. The last is what the start may turn out to be of, if the
  -- start of the first is still to come.
  local function all_runs(facts)
    if known_of == facts then return known end
    local waiting, begun = {}, {}
    known, known_of = {}, facts
    for _, step in ipairs(facts.rs) do
      local at, mark, number = step[1], step[2], step[3]
      local of_worker = waiting[mark]
      if not of_worker then
        of_worker = {}
        waiting[mark] = of_worker
      end
      if number then
        of_worker[number] = at
      else
        local first, last = nil, nil
        for other in pairs(of_worker) do
          if not begun[other] and (first == nil or other < first) then first = other end
          if last == nil or other > last then last = other end
        end
        local attempt = first or last
        local other = last ~= attempt and not begun[last] and last
        known[#known + 1] = { at, mark, attempt, attempt and of_worker[attempt], other }
        if attempt then begun[attempt], of_worker[attempt] = true, nil end
      end
    end
    return known
  end

  -- The latest attempt that was sent until a time, as far as is known.
  local function sent_until(facts, at)
    local latest = 0
    for number, entry in pairs(facts.at) do
      if number > latest and entry[1] > 0 and (at == 0 or entry[1] <= at) then latest = number end
    end
    return latest
  end

  -- The latest attempt that there was at a time.
  local function attempt_at(facts, at)
    local latest = sent_until(facts, at)
    for _, step in ipairs(facts.rs) do
      if step[3] and step[3] > latest and (at == 0 or step[1] <= at) then latest = step[3] end
    end
    return latest
  end

  -- The run of an event of a worker, or of any worker if that is nil; nil if its start is not known. A worker may say
  -- that a run was retried when it has begun the retry.
  local function run_of(facts, code, at, mark)
    local found = nil
    local below = math.huge
    if code == RETRIED then
      local sent = sent_until(facts, at)
      below = sent > 0 and sent or below
    end
    for _, run in ipairs(all_runs(facts)) do
      if mark == nil or run[2] == mark then
        if code == STARTED then
          if run[1] == at then return run end
        elseif (at == 0 or run[1] <= at) and (run[3] or 0) < below then
          found = run
        end
      end
    end
    return found
  end

  -- {attempt or nil, run or nil} of an event of a task whose runs are told apart.
  local function place_of(facts, code, at, worker)
    if OF_A_RUN[code] then
      local run = run_of(facts, code, at, mark_of(worker))
      return run and run[3], run
    elseif code == RECEIVED then
      local mark = mark_of(worker)
      for _, step in ipairs(facts.rs) do
        if step[3] and step[1] == at and step[2] == mark then return step[3], nil end
      end
    elseif code == SENT then
      for number, entry in pairs(facts.at) do
        if entry[1] == at then return number, nil end
      end
    end
    return attempt_at(facts, at), nil
  end

  -- The wait in µs before a start; negative if the clocks of two hosts say so, or nil if it is not known.
  local function wait_before(started, sent, received, due)
    local available = (sent or 0) > 0 and sent or received or 0
    if available <= 0 or (started or 0) <= 0 then return nil end
    return started - math.max(available, due or 0)
  end

  local function wait_of_run(facts, run)
    local number = run[3] or attempt_at(facts, run[1])
    local entry = facts.at[number]
    return wait_before(run[1], entry and entry[1], run[4], entry and entry[3])
  end

  -- Whether an event begins what the facts without steps cannot hold.
  local function needs_steps(facts, code, fact)
    if code == STARTED then
      return facts.sc ~= nil or (facts.rc ~= nil and facts.w ~= fact[4])
    elseif code == RETRIED or fact[7] ~= 0 then
      return true
    end
    return code == RECEIVED and (facts.rc ~= nil or (facts.sc ~= nil and facts.w ~= fact[4]))
  end

  local function merge_step(facts, fact)
    local code, at = fact[2], fact[3]
    known_of = nil
    if code == STARTED then
      add_step(facts, { at, mark_of(fact[4]) })
    elseif code ~= RETRIED then
      local number = whole(fact[7], MOST_RETRIES)
      merge_attempt(facts, code, at, number, fact[6], fact[8])
      if code == RECEIVED then add_step(facts, { at, mark_of(fact[4]), number }) end
    end
  end

  -- Merges an event.
  function runs.merge(facts, fact)
    local code = fact[2]
    if not IS_STEP[code] then return merge_fact(facts, fact) end
    if not facts.at and needs_steps(facts, code, fact) then begin_steps(facts) end
    merge_fact(facts, fact)
    if facts.at then merge_step(facts, fact) end
  end

  -- Keeps the wait before the latest start, after events were merged.
  function runs.keep_wait(facts)
    local started = facts.sl
    if not started then return end
    local wait = nil
    if facts.at then
      local all = all_runs(facts)
      wait = #all > 0 and wait_of_run(facts, all[#all]) or nil
    else
      wait = wait_before(started, facts.st, facts.rl, facts.e)
    end
    facts.qw = wait and (wait > 0 and wait or 0)
  end

  local function is_begun(facts, number)
    for _, run in ipairs(all_runs(facts)) do
      if run[3] == number then return true end
    end
    return false
  end

  local function is_sending_known(facts, number, sends)
    local entry = facts.at[number]
    return (entry and (entry[1] > 0 or entry[2])) or not sends(facts.n, number > 0)
  end

  -- Whether all is known that an event's line says of its run and its attempt.
  -- sends(name, is_retry): whether a task-sent is to be expected for such attempts.
  function runs.is_known(facts, code, at, worker, sends)
    if not facts.at then
      -- The start that is known is of another run if it is later than the end, or at another worker.
      if code ~= STARTED and OF_A_RUN[code] and at > 0 and (facts.sl > at or facts.w ~= worker) then return false end
      return facts.q ~= nil or not sends(facts.n, false)
    end
    local number, run = place_of(facts, code, at, worker)
    if number == nil or not is_sending_known(facts, number, sends) then return false end
    if run and run[5] and not is_begun(facts, run[5]) then return false end
    if code ~= RETRIED then return true end
    -- Each retry was sent before the worker says so, and the one that it speaks of is the latest.
    return sent_until(facts, at) <= number + 1 and (sent_until(facts, 0) >= facts.xc or not sends(facts.n, true))
  end

  -- Whether the queue of an event's attempt is known, or none is to be expected.
  function runs.is_queue_known(facts, code, at, worker, sends)
    if not facts.at then return facts.q ~= nil or not sends(facts.n, false) end
    return is_sending_known(facts, place_of(facts, code, at, worker) or attempt_at(facts, at), sends)
  end

  -- The wait in µs of the run that a start began; see wait_before.
  function runs.wait(facts, at, worker)
    if not facts.at then return wait_before(facts.sl, facts.st, facts.rl, facts.e) end
    local run = run_of(facts, STARTED, at, mark_of(worker))
    return run and wait_of_run(facts, run)
  end

  -- The queue of an event's attempt; nil if it is not known.
  function runs.queue(facts, code, at, worker)
    if facts.at then
      local entry = facts.at[place_of(facts, code, at, worker) or attempt_at(facts, at)]
      return entry and entry[2] or facts.q
    end
    return facts.q
  end

  -- The facts for an event's line and handlers, packed: those of the task, and of attempts and runs the event's own. So
  -- what is not waited for is left out: the wait before a run of which the event is no part, the queue for a receipt.
  -- facts_text: the facts of the task, packed.
  function runs.text(facts, facts_text, code, at, worker)
    if not facts.at then
      if OF_A_RUN[code] or (facts.qw == nil and code ~= RECEIVED) then return facts_text end
      local wait, queue = facts.qw, facts.q
      facts.qw = nil
      if code == RECEIVED then facts.q = nil end
      local text = pack_facts(facts)
      facts.qw, facts.q = wait, queue
      return text
    end
    local number, run = place_of(facts, code, at, worker)
    if OF_A_RUN[code] and not run then run = run_of(facts, nil, at, nil) end
    number = number or run and run[3] or attempt_at(facts, at)
    local entry, wait = facts.at[number], run and wait_of_run(facts, run)
    local kept = { facts.at, facts.rs, facts.re, facts.st, facts.q, facts.e, facts.sl, facts.rl, facts.qw }
    facts.at, facts.rs = nil, nil
    facts.re = code == RETRIED and number + 1 or number > 0 and number or nil
    facts.qw = wait and math.max(0, wait) or nil
    if entry then
      facts.st, facts.q = entry[1] > 0 and entry[1] or facts.st, entry[2] or facts.q
      facts.e = entry[3] > 0 and entry[3] or nil
    end
    if code == RECEIVED then facts.q = nil end
    if run then facts.sl, facts.rl = run[1], run[4] or facts.rl end
    local text = pack_facts(facts)
    facts.at, facts.rs, facts.re, facts.st, facts.q, facts.e, facts.sl, facts.rl, facts.qw = unpack(kept, 1, 9)
    return text
  end
end
