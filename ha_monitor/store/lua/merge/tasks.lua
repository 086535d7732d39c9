-- Events of tasks: each is merged into the record of its task.
--
-- @include briefs clock counting error_groups generated/catalogue index/abandoned index/flow index/indexes lifetime
-- @include packed phases record runs saving sender_clocks statistics story work worker_runs
-- @include merge/activity merge/announce merge/counts merge/open_tasks merge/producers merge/run_times merge/tally
-- @include merge/waiting merge/workers
-- @families task
-- @options first_look
-- @option tasks  {number of tasks, task id, number of facts, …, task id, …}, FACT_SIZE values for each fact (packing)

local merge_tasks

do
  local first_look = options.first_look

  local hear = workers.hear
  local add, note_sent, note_run = story.add, flow.note_sent, worker_runs.note
  local earliest, latest = sender_clocks.begin()
  local new_of_tasks, repeated_of_tasks = 0, 0
  local fresh, fresh_size = {}, 0 -- new events of a task that are to be counted; one table for all tasks
  local ended, ended_size = {}, 0 -- new ends of runs; likewise
  local noted, noted_size = {}, 0 -- new errors of a task; likewise
  local no_announcements = {} -- shared by all tasks without announcements, since most events have none

  -- How many events of a task are merged before those that can be announced are: of very many attempts, a record keeps
  -- only the latest (runs.lua), so a long list would push out its first attempts before their lines are written.
  local A_PIECE = 32
  local AT_ONCE = 16 -- records that one command reads
  local ENDS_A_RUN = { [SUCCEEDED] = true, [FAILED] = true, [RETRIED] = true }
  local is_counted = counting and EVENTS.counted or {} -- code -> true
  local CAN_BEGIN = { [SENT] = true, [RECEIVED] = true, [STARTED] = true }

  -- Merges the new events of a task with these indexes, and adds to `announce` what is to be announced. Returns how
  -- many are new, and whether an event that can begin a run arrived after the last end, in this call or before.
  local function merge_events(uuid, facts, batch, first, last, announce, has_begun)
    local new, marks = 0, facts.sh
    for index = first, last do
      local fact = batch[index]
      local code = fact[2]
      if not (marks and briefs.has_seen(marks, fact[1])) and add(fact[1], fact[3], code) then
        new = new + 1
        local worker = fact[4]
        local is_reported_again = code == FAILED and is_reported_twice(facts, fact)
        local announced = facts.z and is_reconciled(facts, code) or is_reported_again
        if facts.tk then
          local begins = CAN_BEGIN[code] and fact[3] > (facts.tt or 0) and not runs.is_late_sending(facts, fact)
          has_begun = begins or has_begun and not EVENTS.ends[code]
        end
        if worker ~= facts.w and facts.w and (code == RECEIVED or code == STARTED) then
          abandoned.note(uuid, facts, fact)
        end
        if is_reported_again then runs.merge_again(facts, fact) else runs.merge(facts, fact) end
        local at, by_store = fact[3], nil
        if at < earliest or at > latest or facts.cm then by_store = sender_clocks.note(facts, fact) end
        -- A producer sends task-sent, and perhaps events without a code (0).
        if code == SENT then
          if fact[8] then
            note_sent(fact, by_store or at)
            if facts.n then producers.note(facts.n, fact[7] ~= 0) end
          end
        elseif code > 0 then
          hear(worker, at)
          if code == STARTED then
            if fact[6] and at > 0 then activity.start(worker, fact[6], at) end
          elseif code == SUCCEEDED and first_look and fact[6] and facts.n then
            run_times.note(facts.n, fact[6])
          end
        end
        if not announced then
          if is_counted[code] then
            fresh_size = fresh_size + 1
            fresh[fresh_size] = fact
          end
          if ENDS_A_RUN[code] then
            ended_size = ended_size + 1
            ended[ended_size] = fact
            note_run(worker, at, code == FAILED)
            if fact[8] then
              noted_size = noted_size + 1
              noted[noted_size] = fact
            end
          end
          if fact[5] then announce[#announce + 1] = { fact[5], code, at, now, worker } end
        end
      end
    end
    new_of_tasks, repeated_of_tasks = new_of_tasks + new, repeated_of_tasks + last - first + 1 - new
    return new, has_begun
  end

  -- Reads the records of some tasks with one command, since a command costs as much as several reads; adds the keys and
  -- values to two tables. MGET also returns false for a key that holds no string: load_record reads such a key itself.
  local function read_ahead(given, places, first, ahead, values)
    local last = math.min(first + AT_ONCE - 1, given[1])
    for index = first, last do ahead[index] = families.task .. given[places[index]] end
    local found, absent = redis.call('MGET', unpack(ahead, first, last)), {}
    for index = first, last do
      values[index] = found[index - first + 1]
      if not values[index] then absent[#absent + 1] = ahead[index] end
    end
    if #absent == 0 or redis.call('EXISTS', unpack(absent)) == 0 then return end
    for index = first, last do values[index] = values[index] or nil end
  end

  -- batch: the facts; only the first `size` are valid.
  local function merge(uuid, batch, size, key, raw)
    local facts, seen_before, announce, uncounted, story_text = load_record(key, raw)
    if seen_before == '' and briefs.are_any() then facts = briefs.find(uuid) or facts end
    local was_waiting = announce ~= nil or facts.gw ~= nil
    local was_open = seen_before ~= '' and facts.tk == nil
    local phase_before, since_before = nil, nil
    if any_found then phase_before, since_before = phase_of(facts) end
    local name_before, started_before, wait_before = facts.n, facts.sl, facts.qw
    indexes.remember(facts)
    announce = announce or no_announcements
    local rest = size > A_PIECE and {} or nil
    local new, has_begun = 0, false
    story.begin(seen_before, story_text)
    fresh_size, ended_size = 0, 0
    for first = 1, size, A_PIECE do
      local last, more = first + A_PIECE - 1, nil
      if last > size then last = size end
      more, has_begun = merge_events(uuid, facts, batch, first, last, announce, has_begun)
      new = new + more
      if noted_size > 0 or facts.gw then
        error_groups.note(uuid, facts, noted, announce)
        noted, noted_size = {}, 0
      end
      if more > 0 and last < size then
        runs.keep_wait(facts)
        announce = announce_complete(announce, facts, packed.first(facts), rest)
      end
    end
    if new == 0 then return end
    local seen
    seen, story_text = story.whole()
    local is_elsewhere = false
    if first_look then
      open_tasks.note(uuid, facts, seen_before == '', was_open, batch[1][3], has_begun)
      is_elsewhere = phase_before and open_tasks.note_move(uuid, facts, phase_before, since_before)
    end
    indexes.note(uuid, facts, is_elsewhere)

    runs.keep_wait(facts)
    statistics.note_task(facts, ended, ended_size, name_before, started_before, wait_before)
    local facts_text = runs.differ(facts, announce) and packed.first(facts) or packed.whole(facts)
    if rest then
      for _, entry in ipairs(rest) do announce[#announce + 1] = entry end
    end
    if #no_announcements > 0 then no_announcements = {} end
    local still = announce_complete(announce, facts, facts_text)
    if counting then uncounted = count_events(facts, uncounted, fresh, fresh_size) end
    local is_waiting = #still > 0 or (uncounted ~= nil and #uncounted > 0) or facts.gw ~= nil
    if is_waiting or was_waiting then waiting.note(uuid, is_waiting, was_waiting) end
    local kept_for = not is_waiting and briefs.keep(uuid, facts, seen) or lifetime.of(facts)
    save_record(key, facts_text, seen, still, uncounted, story_text, kept_for)
  end

  -- Merges at least one task, and more until this call has done enough; returns how many. What follows the tasks in a
  -- batch is small, and is merged with the last task.
  function merge_tasks()
    local FACT_SIZE, given, unpack = 8, options.tasks, unpack
    local merged, events = 0, 0
    local ahead, values, batch = {}, {}, {}
    local places, place = {}, 2 -- where each task begins
    for index = 1, given[1] do
      places[index], place = place, place + 2 + given[place + 1] * FACT_SIZE
    end
    for index = 1, given[1] do
      if merged > 0 and is_enough(events) then break end
      if index % AT_ONCE == 1 then read_ahead(given, places, index, ahead, values) end
      place = places[index]
      local uuid, size = given[place], given[place + 1]
      place = place + 2
      for number = 1, size do
        batch[number] = { unpack(given, place, place + FACT_SIZE - 1) }
        place = place + FACT_SIZE
      end
      merge(uuid, batch, size, ahead[index], values[index])
      merged, events = index, size
    end
    tally.add(new_of_tasks, repeated_of_tasks)
    return merged
  end
end
