-- Counts events for the metrics of an instance.
--
-- The counts lie in one hash an instance, written in the same call that merges the events: what is merged once is
-- counted once, whatever dies meanwhile, and the counts go on where they were when the instance starts again.
--
-- A field is made of parts with SEPARATOR between:
--   {code, name, worker, queue, exception}   events of that code (events/catalogue.py); exception with FAILED only
--   {'r', name, worker, queue, le}           runs that took at most `le` seconds, and more than the bound before
--   {'R', name, worker, queue, ''}           their sum in µs
--   {'w', …} {'W', …}                        the same for the wait before each run (runs.lua)
-- `worker` is a nodename, or for SENT the host of the producer, whose nodename has its process id in it.
-- {'l', nodename} is the number of events lost (see losses.lua; nodename is empty where workers are not told apart),
-- {'z', name} that of missing ends that were added (see confirm.lua). {'s', nodename} is the number of runs that by the
-- clocks of two hosts began before their attempt was sent, {'S', nodename} by how much in all, in µs.
--
-- @include counted generated/catalogue numbers pieces runs trouble work
-- @keys counts
-- @option counting  how events are counted, see below; nil for not at all
-- @options failure_ttl

local SEPARATOR = '\31'
local UNKNOWN, OVERFLOW = 'unknown', 'overflow'
local WAIT = -1 -- a code that no event has
-- What was counted under the same labels is a cell: {[code] = events, failed = {[exception] = events},
-- r = {[le] = runs}, R = sum, w, W}. The fields' texts are put together when they are written, once for many events.
local counts = {} -- name -> worker -> queue -> cell
-- {max_series = most fields of the hash, buckets = upper bounds of the histograms in ascending order, per_worker =
-- whether the workers are told apart}; nil where nothing is counted.
local counting = options.counting

local function inner(outer, key)
  local found = outer[key]
  if not found then
    found = {}
    outer[key] = found
  end
  return found
end

local cell_of
local field_to_write = 0 -- what one more field of the last cell adds to it

do
  -- Often the next event has the same labels.
  local last_name, last_worker, last_queue, last_cell

  function cell_of(name, worker, queue)
    if last_name ~= name or last_worker ~= worker or last_queue ~= queue then
      last_name, last_worker, last_queue = name, worker, queue
      last_cell = inner(inner(inner(counts, name), worker), queue)
      field_to_write = TO_WRITE.index + (#name + #worker + #queue) / TO_WRITE.labels
    end
    return last_cell
  end
end

-- buckets, sum: the keys of the cell that have them.
local function observe(cell, buckets, sum, seconds)
  local bounds, le = counting.buckets, '+Inf'
  for index = 1, #bounds do
    if seconds <= bounds[index] then
      le = bounds[index]
      break
    end
  end
  seconds = clamped(seconds, MOST_SECONDS)
  local counted = inner(cell, buckets)
  local before = counted[le]
  if before then
    counted[le] = before + 1
  else
    counted[le] = 1
    will_write(2 * field_to_write) -- with the sum
  end
  cell[sum] = (cell[sum] or 0) + math.floor(seconds * 1000000 + 0.5)
end

-- The kinds with one label: label -> how much. A nodename is empty where workers are not told apart.
local with_one_label = { z = {}, l = {}, s = {}, S = {} }

local function add_to(kind, label, by)
  with_one_label[kind][label] = (with_one_label[kind][label] or 0) + by
end

-- Whether the labels of an event are known.
local function is_countable(facts, code, at, worker, sends)
  return facts.n ~= nil and runs.is_queue_known(facts, code, at, worker, sends)
end

-- Counts one event, but for a start the wait before it.
-- extra: the run time in seconds with SUCCEEDED, the exception's text with FAILED; or nil.
local function count_event(facts, code, at, worker, extra)
  local queue = runs.queue(facts, code, at, worker) or UNKNOWN
  if code == SENT then
    worker = string.match(worker, '@(.*)$') or worker
  end
  if not counting.per_worker then
    worker = ''
  end
  local cell = cell_of(facts.n or UNKNOWN, worker, queue)
  if code == FAILED then
    local failed = inner(cell, 'failed')
    local exception = string.match(extra or '', '^([%w_.]+)%(') or 'UnknownException'
    failed[exception] = (failed[exception] or 0) + 1
    will_write(field_to_write) -- at most
    return
  end
  local before = cell[code]
  if before then
    cell[code] = before + 1
  else
    cell[code] = 1
    will_write(field_to_write)
  end
  if code == SUCCEEDED then
    if extra then observe(cell, 'r', 'R', extra) end
  end
end

-- Counts the wait before a start. A negative one is the clocks' fault.
local function count_wait(facts, at, worker)
  local wait, missing = runs.wait(facts, at, worker)
  local label = counting.per_worker and worker or ''
  if missing > 0 then
    add_to('s', label, 1)
    add_to('S', label, missing)
  end
  if not wait then return end
  local queue = runs.queue(facts, STARTED, at, worker) or UNKNOWN
  observe(cell_of(facts.n or UNKNOWN, label, queue), 'w', 'W', wait / 1000000)
end

-- Counts an event that waited; one of code WAIT is the wait before a start.
local function count_waiting(facts, entry)
  if entry[1] == WAIT then
    count_wait(facts, entry[2], entry[3])
  else
    count_event(facts, entry[1], entry[2], entry[3], entry[4] or nil)
  end
end

local function count_reconciled(facts)
  add_to('z', facts.n or UNKNOWN, 1)
end

local function count_lost(nodename, by)
  add_to('l', counting.per_worker and nodename or '', by)
end

-- Whether events of a code are counted.
local function is_counted(code)
  return EVENTS.counted[code]
end

local write_counts

do
  -- What was counted as fields: their texts, and {kind, last part, how much} of each.
  local function counted_fields()
    local fields, parts = {}, {}
    local function add(kind, labels, last, by)
      fields[#fields + 1] = kind .. labels .. last
      parts[#parts + 1] = { kind, last, by }
    end
    for name, workers in pairs(counts) do
      for worker, queues in pairs(workers) do
        for queue, cell in pairs(queues) do
          local labels = SEPARATOR .. name .. SEPARATOR .. worker .. SEPARATOR .. queue .. SEPARATOR
          for key, counted in pairs(cell) do
            if type(counted) == 'table' then
              local kind = key == 'failed' and FAILED or key
              for last, by in pairs(counted) do add(kind, labels, last, by) end
            else
              add(key, labels, '', counted)
            end
          end
        end
      end
    end
    for kind, counted in pairs(with_one_label) do
      for label, by in pairs(counted) do
        fields[#fields + 1] = kind .. SEPARATOR .. label
        parts[#parts + 1] = { kind, '', by }
      end
    end
    return fields, parts
  end

  local function overflow_of(kind, last)
    if with_one_label[kind] then
      return kind .. SEPARATOR .. OVERFLOW
    end
    local parts = { kind, OVERFLOW, OVERFLOW, OVERFLOW, kind == FAILED and OVERFLOW or last }
    return table.concat(parts, SEPARATOR)
  end

  -- The sum of what a field holds, if anything, and more. Lua would round a sum in µs when it makes a text of it.
  local function sum_text(known, by)
    local sum = (tonumber(known or nil) or 0) + by
    if not (sum >= 0 and sum <= MOST_COUNT) then sum = clamped(sum, MOST_COUNT) end
    return string.format('%.0f', sum)
  end

  -- Adds to the fields under which the rest is added up. overflow: field -> how much.
  local function write_overflow(overflow)
    for field, by in pairs(overflow) do
      -- Not by HINCRBY, which stops at a value that is no integer.
      attempt('HSET', keys.counts, field, sum_text(attempt('HGET', keys.counts, field), by))
    end
  end

  -- Adds what was counted to the hash. New fields beyond the limit are added up under labels of their own.
  function write_counts()
    local fields, parts = counted_fields()
    if #fields == 0 then return end
    note_counted()
    local held = attempt('HLEN', keys.counts)
    if not held then return end
    local room, overflow = counting.max_series - held, {}
    for first = 1, #fields, PUSH_AT_ONCE do
      local last = math.min(first + PUSH_AT_ONCE - 1, #fields)
      -- Two calls for many fields cost less than one HINCRBY a field.
      local before = attempt('HMGET', keys.counts, unpack(fields, first, last))
      if not before then return end
      local after, size = {}, 0
      for index = first, last do
        local known, part = before[index - first + 1], parts[index]
        if known or room > 0 then
          if not known then room = room - 1 end
          after[size + 1], after[size + 2] = fields[index], sum_text(known, part[3])
          size = size + 2
        else
          local field = overflow_of(part[1], part[2])
          overflow[field] = (overflow[field] or 0) + part[3]
        end
      end
      if size > 0 then attempt('HSET', keys.counts, unpack(after)) end
    end
    write_overflow(overflow)
    attempt('EXPIRE', keys.counts, options.failure_ttl)
  end
end
