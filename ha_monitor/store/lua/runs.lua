-- To which run an event of a task belongs, and how long that run waited.
--
-- A retry is a new attempt under the same id: it is sent, received and started again, perhaps with an eta and in
-- another queue. Only task-sent and task-received name the number of their attempt (`retries`, from 0). A task that has
-- ended may also be sent again under its id, and then its attempts are numbered from 0 again. So more facts are kept of
-- a task that was retried, requeued, received or started more than once, that ended more than once, or that different
-- workers received and started:
--   at  attempt -> {when it was last sent or 0, its queue or false, its eta or 0, time of the definition with the eta
--       or -1}
--   rs cl  the steps and what closed runs (steps.lua)
-- They commute as all facts do: the MAX_ATTEMPTS highest attempts are kept, but those from before the last end only if
-- there is room. A task without these facts has at most one run, of attempt 0, with at most one end, and the other
-- facts describe it fully; `tw` is the worker of the end, if that is not `w`.
--
-- A start belongs to the lowest attempt that its worker had received by then and that had not begun; if all had begun
-- (a redelivery), to the highest. A success or failure belongs to the latest earlier start of its worker that no other
-- one ended; any other end to the latest. A retry belongs to the latest start of an attempt before the one that was
-- sent, or, where its worker has ended the task, to the attempt that counting its retries gives (steps.lua). This
-- compares no clocks of different hosts. Events before an earlier end do not count for an attempt's number.
--
-- The wait of a run is the time from when its attempt was sent (without task-sent: received), or from its eta if that
-- is later, to its start. If clocks are wrong, it is corrected or unknown (sender_clocks.lua). `qw` is the wait of the
-- latest start.
--
-- @include consumed generated/catalogue numbers packed record sender_clocks skew steps

local runs = {}

do
  local MAX_ATTEMPTS = 16
  -- Events that belong to a run that has begun; all others do not depend on a start.
  local OF_A_RUN = EVENTS.of_a_run
  local ENDS = EVENTS.ends
  local IS_STEP = { [SENT] = true, [RECEIVED] = true, [STARTED] = true, [RETRIED] = true, [REQUEUED] = true }
  for code in pairs(ENDS) do IS_STEP[code] = true end
  local mark_of = steps.mark_of

  -- Forgets an attempt if there are too many: the lowest from before the last end, else the lowest of all.
  local function limit_attempts(facts)
    local count, lowest, lowest_old = 0, nil, nil
    local ended = steps.end_before(facts, math.huge)
    for number, entry in pairs(facts.at) do
      count = count + 1
      if lowest == nil or number < lowest then lowest = number end
      local is_old = math.max(entry[1], entry[4]) <= ended
      if is_old and (lowest_old == nil or number < lowest_old) then lowest_old = number end
    end
    if count > MAX_ATTEMPTS then facts.at[lowest_old or lowest] = nil end
  end

  -- Begins to tell attempts and runs apart, starting with what the facts say of the only ones so far.
  local function begin_steps(facts)
    facts.at, facts.rs, facts.cl = {}, {}, {}
    if facts.st or facts.d then
      facts.at[0] = { facts.st or 0, facts.q or false, facts.e or 0, facts.d or -1 }
    end
    if facts.rc then steps.add(facts.rs, { facts.rl, mark_of(facts.w), 0 }) end
    if facts.sc then steps.add(facts.rs, { facts.sl, mark_of(facts.w) }) end
    if facts.tk and facts.tt > 0 then
      steps.add(facts.cl, { facts.tt, mark_of(facts.tw or facts.w or ''), facts.tk })
    end
    facts.tw = nil
  end

  local function merge_attempt(facts, code, at, number, definition, queue)
    local is_new = facts.at[number] == nil
    local entry = is_new and { 0, false, 0, -1 } or facts.at[number]
    facts.at[number] = entry
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
    if is_new then limit_attempts(facts) end
  end

  -- The latest attempt known to have been sent until a time, and after an earlier end.
  local function sent_until(facts, at, ended)
    local latest = 0
    for number, entry in pairs(facts.at) do
      if number > latest and entry[1] > ended and (at == 0 or entry[1] <= at) then latest = number end
    end
    return latest
  end

  -- The latest attempt that existed at a time.
  local function attempt_at(facts, at)
    local ended = steps.end_before(facts, at)
    local latest = sent_until(facts, at, ended)
    for _, step in ipairs(facts.rs) do
      if step[3] and step[3] > latest and step[1] > ended and (at == 0 or step[1] <= at) then latest = step[3] end
    end
    return latest
  end

  -- The run of a worker's event, or of any worker's if `mark` is nil; nil if its start is not known. Then whether a
  -- retry's run is certain. A worker may report a retry only after it has begun the next attempt.
  local function run_of(facts, code, at, mark)
    local found, is_found_out = steps.run_of_end(facts, code, at, mark)
    if is_found_out then return found end
    local below, ended = math.huge, 0
    local is_open = code == nil or code == RETRIED -- what is retried has no other end
    if code == RETRIED then
      local run = steps.run_of_retry(facts, at, mark)
      if run then return run, true end
      -- Another worker may have ended the retry before this one reports it.
      ended = steps.end_before(facts, at, mark)
      local sent = sent_until(facts, at, ended)
      below = sent > 0 and sent or below
    end
    for _, run in ipairs(steps.runs(facts)) do
      if mark == nil or run[2] == mark then
        if code == STARTED then
          if run[1] == at then return run end
        elseif (at == 0 or run[1] <= at) and run[1] > ended and (run[3] or 0) < below and not (run[6] and is_open) then
          found = run
        end
      end
    end
    return found
  end

  local function find_place(facts, code, at, worker)
    if OF_A_RUN[code] then
      local run, is_certain = run_of(facts, code, at, mark_of(worker))
      return run and run[3], run, is_certain
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

  local places, places_in = {}, nil -- time -> what was found; valid only for these runs, which change with the facts

  -- {attempt or nil, run or nil, whether a retry's run is certain} of an event of a task whose runs are told apart.
  -- Cached, since it is called repeatedly.
  local function place_of(facts, code, at, worker)
    local all = steps.runs(facts)
    if all ~= places_in then places, places_in = {}, all end
    local place = places[at]
    if place and place[1] == code and place[2] == worker then return place[3], place[4], place[5] end
    local number, run, is_certain = find_place(facts, code, at, worker)
    places[at] = { code, worker, number, run, is_certain }
    return number, run, is_certain
  end

  -- The wait in µs before a start; negative if the clocks of two hosts differ so; nil if it is not known.
  local function wait_before(facts, started, sent, received, due)
    if sent == 0 then sent = nil end
    if (sent or received or 0) <= 0 or (started or 0) <= 0 then return nil end
    if facts.ck then return sender_clocks.wait(facts, started, sent, received, due or 0) end
    local available = sent or received
    return started - (due and due > available and due or available)
  end

  -- The wait that is shown: 0 if clocks differ a little, and nil if one of them is wrong.
  local function shown_wait(wait)
    if not wait or wait < -WRONG_CLOCK * 1000 then return nil end
    return wait > 0 and wait or 0
  end

  local function wait_of_run(facts, run)
    local number = run[3] or attempt_at(facts, run[1])
    local entry, ended = facts.at[number], steps.end_before(facts, run[1])
    local sent = entry and entry[1] > ended and entry[1]
    local due = entry and entry[4] > ended and entry[3]
    return wait_before(facts, run[1], sent or nil, run[4], due or nil)
  end

  -- Whether an event needs facts about runs that a record without steps cannot hold.
  local function needs_steps(facts, code, fact)
    if code == STARTED then
      return facts.sc ~= nil or (facts.rc ~= nil and facts.w ~= fact[4])
    elseif ENDS[code] then
      return true
    elseif code == RETRIED or code == REQUEUED or fact[7] ~= 0 then
      return true
    end
    return code == RECEIVED and (facts.rc ~= nil or (facts.sc ~= nil and facts.w ~= fact[4]))
  end

  local function merge_step(facts, fact)
    local code, at = fact[2], fact[3]
    steps.forget_runs()
    if code == STARTED then
      steps.add(facts.rs, { at, mark_of(fact[4]) })
    elseif code == SENT or code == RECEIVED then
      local number = whole(fact[7], MAX_RETRIES)
      merge_attempt(facts, code, at, number, fact[6], fact[8])
      if code == RECEIVED then steps.add(facts.rs, { at, mark_of(fact[4]), number }) end
    elseif at > 0 then
      facts.cl = facts.cl or {}
      steps.add(facts.cl, { at, mark_of(fact[4]), code })
    end
  end

  -- Merges an event.
  function runs.merge(facts, fact)
    local code = fact[2]
    if ENDS[code] and not facts.at and not facts.tk then
      if fact[4] ~= facts.w then facts.tw = fact[4] end
      return merge_fact(facts, fact)
    elseif not IS_STEP[code] then
      return merge_fact(facts, fact)
    end
    if not facts.at and needs_steps(facts, code, fact) then begin_steps(facts) end
    merge_fact(facts, fact)
    if facts.at then
      merge_step(facts, fact)
    elseif facts.tw and facts.tw == facts.w then
      facts.tw = nil
    end
  end

  -- Whether an event is the first task-sent of an attempt that a worker has already received: a producer sends the
  -- event after the message, and may be delayed in between until the task has ended. It does not begin a later run.
  function runs.is_late_sending(facts, fact)
    if fact[2] ~= SENT then return false end
    if not facts.at then return facts.st == nil and facts.rc ~= nil end
    local number = whole(fact[7], MAX_RETRIES)
    local entry = facts.at[number]
    if entry and entry[1] > 0 then return false end
    for _, step in ipairs(facts.rs) do
      if step[3] == number then return true end
    end
    return false
  end

  -- Merges an end that was reported twice: it closes no other run, and the later of the two reports counts.
  function runs.merge_again(facts, fact)
    local ended_at = facts.tt
    merge_fact(facts, fact)
    if facts.cl and ended_at ~= facts.tt then steps.move_closing(facts.cl, ended_at, fact[2], facts.tt) end
  end

  -- Stores the wait before the latest start, after events were merged.
  function runs.keep_wait(facts)
    local started = facts.sl
    if not started then return end
    local wait = nil
    if facts.at then
      local all = steps.runs(facts)
      wait = #all > 0 and wait_of_run(facts, all[#all]) or nil
    else
      wait = wait_before(facts, started, facts.st, facts.rl, facts.e)
    end
    wait = shown_wait(wait)
    if facts.qw ~= wait then facts.qw = wait end
  end

  local function is_begun(facts, number)
    for _, run in ipairs(steps.runs(facts)) do
      if run[3] == number then return true end
    end
    return false
  end

  local function is_sending_known(facts, number, sends)
    local entry = facts.at[number]
    return (entry and (entry[1] > 0 or entry[2])) or not sends(facts.n, number > 0)
  end

  -- Whether everything is known that an event's line says about its run and its attempt.
  -- sends(name, is_retry): whether to expect a task-sent for such attempts.
  function runs.is_known(facts, code, at, worker, sends)
    if not facts.at then
      -- The known start belongs to another run if it is later than the end, or on another worker.
      if code ~= STARTED and OF_A_RUN[code] and at > 0 and (facts.sl > at or facts.w ~= worker) then return false end
      return facts.q ~= nil or not sends(facts.n, false)
    end
    local number, run, is_certain = place_of(facts, code, at, worker)
    if number == nil or not is_sending_known(facts, number, sends) then return false end
    if run and run[5] and not is_begun(facts, run[5]) then return false end
    if code ~= RETRIED or is_certain then return true end
    -- Each retry is sent before the worker reports it, and the report is about the latest.
    local ended = steps.end_before(facts, at, mark_of(worker))
    local retries = ended > 0 and steps.retries_since(facts, ended) or facts.xc
    return sent_until(facts, at, ended) <= number + 1
      and (sent_until(facts, 0, ended) >= retries or not sends(facts.n, true))
  end

  -- Whether the queue of an event's attempt is known, or not to be expected.
  function runs.is_queue_known(facts, code, at, worker, sends)
    if not facts.at then return facts.q ~= nil or not sends(facts.n, false) end
    return is_sending_known(facts, place_of(facts, code, at, worker) or attempt_at(facts, at), sends)
  end

  -- The shown wait in µs of the run that a start began, or nil; and by how much the wait is negative, or 0.
  function runs.wait(facts, at, worker)
    local wait = nil
    if facts.at then
      local _, run = place_of(facts, STARTED, at, worker)
      wait = run and wait_of_run(facts, run)
    else
      wait = wait_before(facts, facts.sl, facts.st, facts.rl, facts.e)
    end
    -- A negative wait that is left after a correction does not count: it is an inaccuracy of the measured skew.
    return shown_wait(wait), facts.ck == nil and wait and math.max(0, -wait) or 0
  end

  -- The queue of an event's attempt; nil if it is not known.
  function runs.queue(facts, code, at, worker)
    if facts.at then
      local entry = facts.at[place_of(facts, code, at, worker) or attempt_at(facts, at)]
      return entry and entry[2] or facts.q
    end
    return facts.q
  end

  -- Whether some of these announcements need other facts than those of the whole task.
  function runs.differ(facts, announce)
    if facts.at then return #announce > 0 end
    for index = 1, #announce do
      local code = announce[index][2]
      if not OF_A_RUN[code] and (facts.qw or (code == RECEIVED and facts.q)) then return true end
    end
    return false
  end

  -- Run -> packed facts for an event of it, and run -> the queue in them; and the packed facts of the task they are of.
  local texts, queues, texts_of = {}, {}, nil

  -- The packed facts for an event's line and handlers: those of the task, but of attempts and runs only the event's
  -- own. What an event does not wait for is left out: the wait before a run that it is no part of, the queue for a
  -- receipt.
  -- facts_text: the packed facts of the task. Returns the packed facts for the event, and the queue in them.
  local function text_of(facts, facts_text, code, at, worker)
    if not facts.at then
      local is_all = OF_A_RUN[code] or (facts.qw == nil and (code ~= RECEIVED or facts.q == nil))
      if is_all then return facts_text, facts.q end
      return packed.without_wait(facts, facts_text, code == RECEIVED), facts.q
    end
    local number, run = place_of(facts, code, at, worker)
    -- Events of the same run have the same facts, but for those that speak of another run.
    local is_shared = run and number and code ~= RETRIED
    if facts_text ~= texts_of then texts, queues, texts_of = {}, {}, facts_text end
    if is_shared and texts[run] then return texts[run], queues[run] end
    if OF_A_RUN[code] and not run then run = run_of(facts, nil, at, nil) end
    number = number or run and run[3] or attempt_at(facts, at)
    local entry, wait = facts.at[number], run and wait_of_run(facts, run)
    local ended = steps.end_before(facts, run and run[1] or at)
    local function of_now(time)
      return time and time > ended and time or nil
    end
    local retries = code == RETRIED and number + 1 or number > 0 and number or nil
    local sent, queue, due, started, received = facts.st, facts.q, facts.e, facts.sl, facts.rl
    if entry then
      sent, queue = entry[1] > 0 and entry[1] or sent, entry[2] or queue
      due = entry[3] > 0 and entry[4] > ended and entry[3] or nil
    end
    if code == RECEIVED then queue = nil end
    if run then started, received = run[1], run[4] or received end
    local text = packed.of_run(
      facts, facts_text, retries, of_now(sent), of_now(started), of_now(received), shown_wait(wait), due, queue
    )
    if is_shared then texts[run], queues[run] = text, queue end
    return text, queue
  end

  -- The same, with the queue that the worker consumes if no other queue is known.
  function runs.text(facts, facts_text, code, at, worker)
    local text, queue = text_of(facts, facts_text, code, at, worker)
    if queue or code == RECEIVED then return text end
    queue = consumed.queue(worker, code == SENT)
    return queue and packed.with_queue(text, queue) or text
  end
end
