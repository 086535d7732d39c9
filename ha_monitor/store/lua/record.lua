-- The record of a task, and how events are merged into it.
--
-- One string key for each task holds concatenated MessagePack values: the facts, the ids seen, `true`, the waiting
-- announcements or nil, the events that wait to be counted or nil, and the story (story.lua), which earlier versions
-- neither write nor keep. The `true` says that a script wrote the record; a record without it is checked first. The
-- facts commute: the same set of events gives the same facts, whatever their order and repetition, and whichever
-- instances merge them. Only facts are stored; the state is derived from them (record.py).
--
-- The facts, a map (a key is absent when nothing is known):
--   n a k r p e   the definition: name, args, kwargs, root id (true: the task itself), parent id, eta in µs
--   o             true if workers know the task by another id than its text here
--   d             time of the event that gave the definition; the latest wins. Packed, `true` stands for that of `rl`
--   st q          when it was last sent, and to which queue
--   rc rl         how often it was received, and when last
--   sc sl         how often it was started, and when last
--   xc xl         how often it was retried, and when last
--   jc            how often it was rejected back to its queue
--   w             the worker that last received or started it
--   re            how often it was retried: the highest number that a worker or producer named, or `xc`
--   tc            how many events finished it (an acks-late task may run twice)
--   tk tt rt ex   the end that counts: its code, time, run time, exception. A success beats all
--                 others, as in Celery's result backends, and a rejection beats none, since Celery sends it
--                 after the failure of the same run; otherwise the latest wins
--   at rs cl tw   its attempts and runs (runs.lua)
--   qw            the wait before the last run in µs
--   g gr gw       fingerprints of the end that counts and of the last retries; errors that wait for the task's name
--                 (error_groups.lua)
--   sw            ended runs that wait for the task's name (statistics.lua)
--   ck cm         what Redis's clock shows about times from wrong clocks (sender_clocks.lua)
--   sh            in a record restored from a brief one: marks of the events merged before (briefs.lua)
--   z zt          code and time of an end that confirm.lua added for a missing event, until that event comes
--
-- A fact, as events/facts.py builds it: {id, code, time in µs or 0, worker, payload or nil, …}, padded with false;
-- after the payload for
--   sent:      definition or nil, retries, queue or nil
--   received:  definition or nil, retries
--   started:   process id of the worker or nil
--   failed:    nil, exception, {fingerprint, class, place} of the error (events/fingerprint.py)
--   retried:   nil, exception, the same or nil: without an exception it is not an error
--   succeeded: run time or nil, its bucket (events/histogram.py) or nil
--
-- A waiting announcement: {payload, code, time in µs, waiting since (ms), worker}. An event that waits to be counted
-- (counting.lua): {code, time in µs, worker, run time or exception or nil, waiting since (ms)}; the wait before a start
-- waits in the same way until the run is known.
--
-- Strings are never compared with < or >: Lua in Redis would collate them by the server's locale.
--
-- @include generated/catalogue ids numbers story stored trouble

local load_record

do
  local MAX_KEPT = 1000 -- waiting entries; far more than the program keeps
  -- The type of each fact: a text; a number that counts or numbers something, with its least value; or a value that
  -- `is_other` checks. An unknown fact is from another version.
  local TEXTS = { n = true, a = true, k = true, p = true, q = true, w = true, ex = true,
    tw = true, g = true }
  local MINIMA = { rc = 1, sc = 1, xc = 1, jc = 1, tc = 1, e = 0, d = 0, st = 0, rl = 0, sl = 0, xl = 0, re = 0, tk = 0,
    tt = 0, qw = 0, z = 0, zt = 0, cm = 0 }
  local function is_number(value)
    return type(value) == 'number' and value >= -1 and value <= MAX_COUNT
  end

  -- Whether a value is a list of at most MAX_KEPT valid entries.
  local function is_list(value, is_entry)
    if type(value) ~= 'table' or #value > MAX_KEPT then return false end
    for _, entry in pairs(value) do
      if type(entry) ~= 'table' or not is_entry(entry) then return false end
    end
    return true
  end

  local function are_numbers(list)
    for _, number in pairs(list) do
      if not is_number(number) then return false end
    end
    return true
  end

  local function is_step(step)
    return is_number(step[1]) and is_number(step[2]) and (step[3] == nil or is_number(step[3]))
  end

  local function is_wrong_time(entry)
    return is_number(entry[1]) and (entry[2] == nil or (type(entry[2]) == 'number' and math.abs(entry[2]) < 1e13))
  end

  local function is_attempt(entry)
    return is_number(entry[1]) and (not entry[2] or type(entry[2]) == 'string') and is_number(entry[3])
      and is_number(entry[4])
  end

  local function is_retry(entry)
    return is_number(entry[1]) and type(entry[2]) == 'string'
  end

  local function is_error(entry)
    local error = entry[4]
    return is_number(entry[1]) and is_number(entry[2]) and type(entry[3]) == 'string' and is_number(entry[5])
      and type(error) == 'table' and type(error[1]) == 'string' and type(error[2]) == 'string'
      and type(error[3]) == 'string'
  end

  local function is_other(key, value)
    if key == 'rt' then
      return is_number(value)
    elseif key == 'r' then
      return value == true or type(value) == 'string'
    elseif key == 'rs' or key == 'cl' then
      return is_list(value, is_step)
    elseif key == 'ck' then
      return is_list(value, is_wrong_time)
    elseif key == 'sh' then
      return is_list({ value }, are_numbers)
    elseif key == 'sw' then
      return is_list(value, is_step)
    elseif key == 'gr' then
      return is_list(value, is_retry)
    elseif key == 'gw' then
      return is_list(value, is_error)
    elseif key == 'at' then
      for number in pairs(type(value) == 'table' and value or {}) do
        if not is_number(number) then return false end
      end
      return is_list(value, is_attempt)
    end
    return type(key) == 'string'
  end

  -- Comparisons with a value that is not a number raise an error.
  local function are_facts(facts)
    for key, value in next, facts do
      local least = MINIMA[key]
      if least then
        if not (value >= least and value <= MAX_COUNT) or value % 1 ~= 0 then return false end
      elseif TEXTS[key] then
        if type(value) ~= 'string' then return false end
      elseif not is_other(key, value) then
        return false
      end
    end
    -- Some facts exist only together with others.
    if facts.rc and not (facts.rl and facts.w) or facts.sc and not (facts.sl and facts.w) then return false end
    if facts.xc and not facts.xl or facts.z and not (facts.zt and facts.tc) then return false end
    if (facts.at == nil) ~= (facts.rs == nil) then return false end
    return facts.tk == nil or (facts.tt and facts.tc and EVENTS.ends[facts.tk]) ~= nil
  end

  local function is_announcement(entry)
    return type(entry[1]) == 'string' and is_number(entry[2]) and is_number(entry[3]) and is_number(entry[4])
      and (entry[5] == nil or type(entry[5]) == 'string')
  end

  local function is_uncounted(entry)
    local extra = entry[4] or nil
    return is_number(entry[1]) and is_number(entry[2]) and type(entry[3]) == 'string'
      and (extra == nil or type(extra) == (entry[1] == FAILED and 'string' or 'number'))
      and (entry[5] == nil or is_number(entry[5]))
  end

  -- The facts, ids, announcements, events to count and story of a record. A foreign or broken one counts as empty, and
  -- the merge begins it anew: otherwise the same fault would show each time.
  -- raw: see load_packed.
  function load_record(key, raw)
    local facts, seen, written, waiting, uncounted, story_text = load_packed(key, raw)
    if not facts then return {}, '', nil, nil, '' end
    if facts.d == true then facts.d = facts.rl end
    -- The check takes as long as unpacking the record: 4 % of a merge.
    if written == true then return facts, seen, waiting, uncounted, story.of(story_text, seen) end
    waiting, uncounted = written, waiting
    local good, are = pcall(are_facts, facts)
    local is_ours = type(seen) == 'string' and #seen % ID_SIZE == 0 and good and are
      and (waiting == nil or is_list(waiting, is_announcement))
      and (uncounted == nil or is_list(uncounted, is_uncounted))
    if is_ours then return facts, seen, waiting, uncounted, story.of(nil, seen) end
    refused(key, BROKEN)
    return {}, '', nil, nil, ''
  end
end

-- Whether a comes after b, byte by byte. Nil comes before everything.
local function greater(a, b)
  if a == b or a == nil then
    return false
  elseif b == nil then
    return true
  end
  a, b = tostring(a), tostring(b)
  for index = 1, math.min(#a, #b) do
    local left, right = string.byte(a, index), string.byte(b, index)
    if left ~= right then
      return left > right
    end
  end
  return #a > #b
end

local is_reconciled, is_reported_twice, merge_fact

do
  local type = type
  local ENDS = EVENTS.ends
  local DEFINITION = { 'n', 'a', 'k', 'r', 'e' }

  local function merge_definition(facts, definition, at)
    -- A task has one parent, and a retry does not name it.
    local parent = definition.p
    if parent and greater(parent, facts.p) then facts.p = parent end
    if definition.o then facts.o = true end
    if facts.d == nil or at > facts.d then
      -- Even assigning nil would enlarge the table, so unchanged values are not set. A loop would take twice as long.
      local n, a, k, r, e = definition.n, definition.a, definition.k, definition.r, definition.e
      if facts.n ~= n then facts.n = n end
      if facts.a ~= a then facts.a = a end
      if facts.k ~= k then facts.k = k end
      if facts.r ~= r then facts.r = r end
      if facts.e ~= e then facts.e = e end
      facts.d = at
    elseif at == facts.d then
      for _, key in ipairs(DEFINITION) do
        if greater(definition[key], facts[key]) then
          facts[key] = definition[key]
        end
      end
    end
  end

  local function merge_worker(facts, at, worker)
    local last, started = facts.rl or -1, facts.sl or -1
    if started > last then last = started end
    if at > last or (at == last and greater(worker, facts.w)) then
      facts.w = worker
    end
  end

  -- The later of two times, of which the first may be nil.
  local function later_of(known, at)
    return known and known > at and known or at
  end

  local function merge_end(facts, code, at, runtime, exception, fingerprint)
    facts.tc = (facts.tc or 0) + 1
    if facts.tk ~= nil then
      -- A later version may know other ends.
      local new, old = ENDS[code], ENDS[facts.tk] or { rank = 1, tie = 0 }
      if new.rank ~= old.rank then
        if new.rank < old.rank then return end
      elseif at ~= facts.tt then
        if at < facts.tt then return end
      elseif new.tie ~= old.tie then
        if new.tie < old.tie then return end
      elseif (runtime or -1) ~= (facts.rt or -1) then
        if (runtime or -1) < (facts.rt or -1) then return end
      elseif exception ~= facts.ex then
        if not greater(exception, facts.ex) then return end
      elseif not greater(fingerprint, facts.g) then
        return
      end
    end
    facts.tk, facts.tt = code, at
    if facts.rt ~= runtime then facts.rt = runtime end
    if facts.ex ~= exception then facts.ex = exception end
    if facts.g ~= fingerprint then facts.g = fingerprint end
  end

  -- Takes back an end that was added because its event was missing, now that the event has come after all. Returns
  -- whether it did: then the event was already announced and counted.
  function is_reconciled(facts, code)
    if facts.z == nil or facts.z ~= code then
      return false
    end
    facts.tc = facts.tc > 1 and facts.tc - 1 or nil
    for index, closing in ipairs(facts.cl or {}) do
      if closing[1] == facts.zt and closing[3] == code then
        table.remove(facts.cl, index)
        break
      end
    end
    if facts.tk == facts.z and facts.tt == facts.zt then
      facts.tk, facts.tt, facts.rt, facts.ex, facts.g = nil, nil, nil, nil, nil
    end
    facts.z, facts.zt = nil, nil
    return true
  end

  -- Whether a failure repeats the one that is known. Celery 5.7 sends two for a run that is stopped at its hard time
  -- limit, and two instances may receive them; another run would have lasted for that limit. The later one replaces the
  -- earlier.
  function is_reported_twice(facts, fact)
    if fact[2] ~= FAILED or facts.tk ~= FAILED or fact[7] ~= facts.ex or (facts.w and facts.w ~= fact[4]) then
      return false
    end
    local limit = tonumber(string.match(facts.ex or '', '^TimeLimitExceeded%(([%d.]+)'))
    if not limit or math.abs(whole(fact[3], MAX_TIME) - facts.tt) >= limit * 1000000 then return false end
    facts.tc = facts.tc > 1 and facts.tc - 1 or nil
    return true
  end

  -- Merges a fact. Its numbers are limited to what Redis and MessagePack can hold.
  function merge_fact(facts, fact)
    local code, at = fact[2], fact[3]
    if type(at) ~= 'number' or at % 1 ~= 0 or at < 0 or at > MAX_TIME then
      at = whole(at, MAX_TIME)
      fact[3] = at
    end
    if code == SENT or code == RECEIVED then
      local definition = fact[6]
      if definition then
        if definition.e then definition.e = whole(definition.e, MAX_TIME) end
        merge_definition(facts, definition, at)
      end
      if fact[7] ~= 0 then facts.re = math.max(facts.re or 0, whole(fact[7], MAX_RETRIES)) end
    elseif code == SUCCEEDED and fact[6] then
      fact[6] = clamped(fact[6], MAX_SECONDS)
    end
    if code == SENT then
      if facts.st == nil or at > facts.st or (at == facts.st and greater(fact[8], facts.q)) then
        facts.st, facts.q = at, fact[8]
      end
    elseif code == RECEIVED then
      merge_worker(facts, at, fact[4])
      facts.rc, facts.rl = (facts.rc or 0) + 1, later_of(facts.rl, at)
    elseif code == STARTED then
      merge_worker(facts, at, fact[4])
      facts.sc, facts.sl = (facts.sc or 0) + 1, later_of(facts.sl, at)
    elseif code == RETRIED then
      facts.xc, facts.xl = (facts.xc or 0) + 1, later_of(facts.xl, at)
      facts.re = math.max(facts.re or 0, facts.xc)
    elseif code == REQUEUED then
      facts.jc = (facts.jc or 0) + 1
    elseif ENDS[code] then
      local runtime, exception, fingerprint = nil, nil, nil
      if code == SUCCEEDED then
        runtime = fact[6] or nil
      elseif code == FAILED then
        exception, fingerprint = fact[7], fact[8] and fact[8][1] or nil
      end
      merge_end(facts, code, at, runtime, exception, fingerprint)
    end
  end
end
