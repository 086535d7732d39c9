-- What ran, by name and minute, for looking back: how many runs ended with which outcome, how long they took, and how
-- long tasks waited. Counted in the call that merges the events, so that each event counts once.
--
-- A hash for each name and hour, `<hour since the epoch>:<name>`, has a field for each minute in which something
-- happened, '0' to '59'; for hours that ended FOLDED_AFTER hours ago, a field for each ten minutes, 't0' to 't5'. A
-- late event may add a minute to these. The value is MessagePack, {key -> count}:
--   4, 9, 10      runs that ended with that code (events/catalogue.py), in the minute in which they ended; of
--                 successful runs only those whose run time is not known
--   20 + bucket   successful runs by run time (events/histogram.py)
--   128 + bucket  tasks by their wait before their latest start, in the minute of that start
-- The wait is the one in the record, `qw`: if an event changes it, the count is moved.
--
-- Runs of tasks whose name is not known yet wait in the task's facts (record.lua), `sw`: {{code, time in µs, bucket or
-- nil}, …}. They are not counted if the name never comes.
--
-- The counts are kept for KEPT hours, for names in the table of names (index/names.lua). An invalid time, and one in
-- the future, count as now.
--
-- @include by_minute clock generated/catalogue generated/histogram index/names numbers trouble work
-- @families statistics

local statistics = {}

do
  local KEPT, FOLDED_AFTER = 72, 3 -- hours
  local MAX_FOLDED = 10 -- hours that one call folds
  local MAX_WAITING_RUNS = 16
  local RUN_TIME, WAIT = 20, 128
  local MIN_DURATION, LAST_BUCKET, LOW_STEP, MIDDLE_STEP, HIGH_STEP = unpack(HISTOGRAM)
  local MINUTE = 60000000 -- µs
  local cells = {} -- name -> minute since the epoch -> {key -> how much to add}
  local last_name, last_from, last_to, last_cell -- the latest cell and its minute, since the next is often the same
  local earliest, latest = (now - KEPT * 3600000) * 1000, now * 1000
  local floor, frexp = math.floor, math.frexp

  local function cell_of(name, at)
    if at > latest or at <= 0 then at = latest end
    local minutes = cells[name]
    if not minutes then
      minutes = {}
      cells[name] = minutes
    end
    local minute = floor(at / MINUTE)
    local cell = minutes[minute]
    if not cell then
      cell = {}
      minutes[minute] = cell
      will_write(TO_WRITE.name)
    end
    last_name, last_from, last_to, last_cell = name, minute * MINUTE, (minute + 1) * MINUTE, cell
    return cell
  end

  -- The bucket of a duration in µs; see events/histogram.py.
  local function bucket_of(duration)
    if duration < MIN_DURATION then return 0 end
    local part, octave = frexp(duration / MIN_DURATION)
    local bucket = 4 * octave - 3
    if part >= MIDDLE_STEP then
      bucket = bucket + (part < HIGH_STEP and 2 or 3)
    elseif part >= LOW_STEP then
      bucket = bucket + 1
    end
    return bucket < LAST_BUCKET and bucket or LAST_BUCKET
  end

  local function add_run(name, code, at, bucket)
    if at > 0 and at < earliest then return end
    local cell = last_cell
    if name ~= last_name or at < last_from or at >= last_to or at > latest then cell = cell_of(name, at) end
    local key = bucket and RUN_TIME + bucket or code
    cell[key] = (cell[key] or 0) + 1
  end

  local function add_wait(name, started, wait, by)
    if started < earliest then return end
    local cell = last_cell
    if name ~= last_name or started < last_from or started >= last_to or started > latest then
      cell = cell_of(name, started)
    end
    local key = WAIT + bucket_of(wait)
    cell[key] = (cell[key] or 0) + by
  end

  -- Counts ended runs of a task. ended: facts of their events, of which the first `count` are valid.
  local function note_runs(facts, ended, count)
    local name = facts.n
    if name and facts.sw then
      for _, run in ipairs(facts.sw) do add_run(name, run[1], run[2], run[3]) end
      facts.sw = nil
    end
    for index = 1, count do
      local fact = ended[index]
      local code = fact[2]
      local bucket = code == SUCCEEDED and fact[7] or nil
      if name then
        add_run(name, code, fact[3], bucket)
      elseif #(facts.sw or {}) < MAX_WAITING_RUNS then
        facts.sw = facts.sw or {}
        table.insert(facts.sw, { code, fact[3], bucket })
      end
    end
  end

  statistics.note_runs = note_runs

  -- Counts what a merge changed in a task: its ended runs; and its wait, which is moved if it was counted elsewhere.
  -- The last three arguments are the values before the merge.
  function statistics.note_task(facts, ended, count, name_before, started_before, wait_before)
    local name, started, wait = facts.n, facts.sl, facts.qw
    if wait ~= wait_before or started ~= started_before or name ~= name_before then
      if name_before and wait_before then add_wait(name_before, started_before, wait_before, -1) end
      if name and wait then add_wait(name, started, wait, 1) end
    end
    if count > 0 or facts.sw then note_runs(facts, ended, count) end
  end

  local function add_to(cell, more)
    for key, by in pairs(more) do
      local sum = (cell[key] or 0) + by
      if not (sum > -MAX_COUNT and sum < MAX_COUNT) then sum = by end
      cell[key] = sum ~= 0 and sum or nil
    end
    return cell
  end

  -- Adds to a cell, or replaces it if it is foreign. A moved count may be negative, if the minute from which it was
  -- moved has been folded.
  local function with_more(text, more)
    local good, cell = pcall(cmsgpack.unpack, text)
    if not good or type(cell) ~= 'table' then return more end
    good, cell = pcall(add_to, cell, more)
    return good and cell or more
  end

  local folded = 0

  -- Folds the minutes of a past hour into tens.
  local function fold(name, hour)
    local key = by_minute.key_of(families.statistics, name, hour)
    if folded >= MAX_FOLDED or (attempt('HLEN', key) or 0) <= 6 then return end
    folded = folded + 1
    local tens, old, new = {}, {}, {}
    local fields = attempt('HGETALL', key) or {}
    for index = 1, #fields, 2 do
      local minute = tonumber(fields[index])
      local ten = minute and 't' .. math.floor(minute / 10) or fields[index]
      if minute then old[#old + 1] = fields[index] end
      tens[ten] = with_more(fields[index + 1], tens[ten] or {})
    end
    for ten, cell in pairs(tens) do
      if next(cell) then new[#new + 1], new[#new + 2] = ten, cmsgpack.pack(cell) end
    end
    if #new > 0 then attempt('HSET', key, unpack(new)) end
    if #old > 0 then attempt('HDEL', key, unpack(old)) end
  end

  local minute_texts = setmetatable({}, {
    __index = function(texts, minute)
      texts[minute] = string.format('%d', minute)
      return texts[minute]
    end,
  })

  local function write_cell(name, minute, more)
    local hour = floor(minute / 60)
    local field = minute_texts[minute % 60]
    local key = by_minute.key_of(families.statistics, name, hour)
    local text = by_minute.cell_in(key, field)
    if not text then
      -- Once for each minute and name.
      if not names.admit(name) then return end
      fold(name, hour - FOLDED_AFTER)
    end
    local cell = text and with_more(text, more) or more
    if next(cell) then
      attempt('HSET', key, field, cmsgpack.pack(cell))
      if not text then attempt('EXPIRE', key, (KEPT + 1) * 3600) end
    elseif text then
      attempt('HDEL', key, field)
    end
  end

  -- Writes the counts, after the records.
  function statistics.write()
    for name, minutes in pairs(cells) do
      for minute, more in pairs(minutes) do
        if next(more) then write_cell(name, minute, more) end
      end
    end
  end
end
