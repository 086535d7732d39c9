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
-- Name, worker and queue are a label set. Those that some instance has counted are in one sorted set: so each instance
-- can export all counters of a label set with 0, before it counts anything for it. A new one needs room.
--
-- @include clock counted generated/catalogue numbers pieces runs trouble work
-- @keys counts label_sets worker_queues
-- @option counting  how events are counted, see below; nil for not at all
-- @options failure_ttl

local SEPARATOR = '\31'
local WAIT = -1 -- a code that no event has
-- {buckets = upper bounds of the histograms in ascending order, workers = how they are told apart: 'nodename',
-- 'hostname', or 'none', worker_histograms = whether the histograms tell them apart, too, room = samples that may be
-- added, reserve = how many of these only label sets without a worker may add, a_label_set, an_exception = samples that
-- one of them adds, default_queue = where a queue is not known at all}; nil where nothing is counted.
local counting = options.counting

local count_event, count_wait, count_waiting, count_reconciled, count_lost, is_countable
local write_counts, add_label_set

do
  local UNKNOWN, OVERFLOW = 'unknown', 'overflow'
  -- What was counted under the same labels is a cell: {[code] = events, failed = {[exception] = events},
  -- r = {[le] = runs}, R = sum, w, W}. The fields' texts are put together when they are written, once for many events.
  local counts = {} -- name -> queue -> worker -> cell
  local hosts = {} -- nodename -> its host

  -- What tells a worker from others under the setting. A producer has no stable nodename.
  local function worker_label(worker, is_producer)
    if counting.workers == 'none' then return '' end
    if counting.workers ~= 'hostname' and not is_producer then return worker end
    local host = hosts[worker]
    if not host then
      host = string.match(worker, '@(.*)$') or worker
      hosts[worker] = host
    end
    return host
  end

  local queue_of_worker = {} -- nodename -> the one queue that it consumes or, if that is not known, the default

  -- The queue of an event whose producer sent no task-sent.
  local function queue_without_sent(worker, is_producer)
    if is_producer or worker == '' then return counting.default_queue end
    local queue = queue_of_worker[worker]
    if not queue then
      queue = attempt('HGET', keys.worker_queues, worker) or counting.default_queue
      queue_of_worker[worker] = queue
    end
    return queue
  end

  local function inner(outer, key)
    local found = outer[key]
    if not found then
      found = {}
      outer[key] = found
    end
    return found
  end

  local cell_of
  local field_to_write = {} -- cell -> what one more field of it adds to what is to be written

  do
    -- Most events of a task have the same name and queue.
    local last_name, last_queue, workers

    function cell_of(name, worker, queue)
      if last_name ~= name or last_queue ~= queue then
        last_name, last_queue, workers = name, queue, inner(inner(counts, name), queue)
      end
      local cell = workers[worker]
      if not cell then
        cell = {}
        workers[worker] = cell
        field_to_write[cell] = TO_WRITE.index + (#name + #worker + #queue) / TO_WRITE.labels
      end
      return cell
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
      will_write(2 * field_to_write[cell]) -- with the sum
    end
    cell[sum] = (cell[sum] or 0) + math.floor(seconds * 1000000 + 0.5)
  end

  -- The kinds with one label: label -> how much. A nodename is empty where workers are not told apart.
  local with_one_label = { z = {}, l = {}, s = {}, S = {} }

  local function add_to(kind, label, by)
    with_one_label[kind][label] = (with_one_label[kind][label] or 0) + by
  end

  -- Whether the labels of an event are known.
  function is_countable(facts, code, at, worker, sends)
    return facts.n ~= nil and runs.is_queue_known(facts, code, at, worker, sends)
  end

  -- Counts one event, but for a start the wait before it.
  -- extra: the run time in seconds with SUCCEEDED, the exception's text with FAILED; or nil.
  function count_event(facts, code, at, worker, extra)
    local queue = facts.at and runs.queue(facts, code, at, worker) or facts.q
      or queue_without_sent(worker, code == SENT)
    local cell = cell_of(facts.n or UNKNOWN, worker_label(worker, code == SENT), queue)
    if code == FAILED then
      local failed = inner(cell, 'failed')
      local exception = string.match(extra or '', '^([%w_.]+)%(') or 'UnknownException'
      failed[exception] = (failed[exception] or 0) + 1
      will_write(field_to_write[cell]) -- at most
      return
    end
    local before = cell[code]
    if before then
      cell[code] = before + 1
    else
      cell[code] = 1
      will_write(field_to_write[cell])
    end
    if code == SUCCEEDED then
      if extra then observe(cell, 'r', 'R', extra) end
    end
  end

  -- Counts the wait before a start. A negative one is the clocks' fault.
  function count_wait(facts, at, worker)
    local wait, missing = runs.wait(facts, at, worker)
    local label = worker_label(worker)
    if missing > 0 then
      add_to('s', label, 1)
      add_to('S', label, missing)
    end
    if not wait then return end
    local queue = runs.queue(facts, STARTED, at, worker) or queue_without_sent(worker)
    observe(cell_of(facts.n or UNKNOWN, label, queue), 'w', 'W', wait / 1000000)
  end

  -- Counts an event that waited; one of code WAIT is the wait before a start.
  function count_waiting(facts, entry)
    if entry[1] == WAIT then
      count_wait(facts, entry[2], entry[3])
    else
      count_event(facts, entry[1], entry[2], entry[3], entry[4] or nil)
    end
  end

  function count_reconciled(facts)
    add_to('z', facts.n or UNKNOWN, 1)
  end

  function count_lost(nodename, by)
    add_to('l', worker_label(nodename), by)
  end

  do
    local room, reserve = 0, 0

    -- Whether there is room for so many more samples; takes it then.
    local function takes(samples, kept)
      if room - kept < samples then return false end
      room = room - samples
      note_samples(samples)
      return true
    end

    local MOST_AHEAD = 86400000 -- ms by which Redis's clock may have been put back
    local latest_added

    -- Each is added later than all before, so that who knows some need ask for what is later only.
    local function insert_label_set(label_set)
      if not latest_added then
        local latest = tonumber((attempt('ZREVRANGE', keys.label_sets, 0, 0, 'WITHSCORES') or {})[2]) or 0
        latest_added = latest < now + MOST_AHEAD and latest or 0
      end
      latest_added = math.max(now, latest_added + 1)
      attempt('ZADD', keys.label_sets, string.format('%.0f', latest_added), label_set)
    end

    function add_label_set(label_set)
      if not attempt('ZSCORE', keys.label_sets, label_set) then insert_label_set(label_set) end
    end

    local places = {} -- label set -> {name, worker, queue} under which it is counted

    -- Under which labels an instance counts what it has not counted before: without the worker if there is little room,
    -- and without anything if there is none.
    local function place_for(name, worker, queue)
      local label_set = name .. SEPARATOR .. worker .. SEPARATOR .. queue
      local place = places[label_set]
      if place then return place end
      place = { name, worker, queue }
      if not attempt('ZSCORE', keys.label_sets, label_set) then
        if name == OVERFLOW or takes(counting.a_label_set, worker ~= '' and reserve or 0) then
          insert_label_set(label_set)
        elseif worker ~= '' then
          place = place_for(name, '', queue)
        else
          place = place_for(OVERFLOW, OVERFLOW, OVERFLOW)
        end
      end
      places[label_set] = place
      return place
    end

    local HISTOGRAM = { r = true, R = true, w = true, W = true }

    -- The field of a count.
    local function field_of(kind, labels, last)
      local name, worker, queue = labels[1], labels[2], labels[3]
      if HISTOGRAM[kind] and not counting.worker_histograms and name ~= OVERFLOW then worker = '' end
      return kind .. SEPARATOR .. name .. SEPARATOR .. worker .. SEPARATOR .. queue .. SEPARATOR .. last
    end

    -- What was counted as fields: their texts, and {kind, labels, last part, how much} of each.
    local function counted_fields()
      local fields, parts, index_of = {}, {}, {}
      local function add(kind, labels, last, by)
        local field = field_of(kind, labels, last)
        local index = index_of[field]
        if index then
          parts[index][4] = parts[index][4] + by
          return
        end
        index = #fields + 1
        index_of[field], fields[index], parts[index] = index, field, { kind, labels, last, by }
      end
      for name, queues in pairs(counts) do
        for queue, workers in pairs(queues) do
          for worker, cell in pairs(workers) do
            local labels = { name, worker, queue }
            for key, value in pairs(cell) do
              if type(value) == 'table' then
                local kind = key == 'failed' and FAILED or key
                for last, by in pairs(value) do add(kind, labels, last, by) end
              else
                add(key, labels, '', value)
              end
            end
          end
        end
      end
      for kind, of_kind in pairs(with_one_label) do
        for label, by in pairs(of_kind) do
          local index = #fields + 1
          fields[index], parts[index] = kind .. SEPARATOR .. label, { kind, nil, label, by }
        end
      end
      return fields, parts
    end

    -- The field under which something is counted of which the hash has no field yet.
    local function new_field(field, part)
      local kind, labels, last = part[1], part[2], part[3]
      if not labels then
        return takes(1, kind == 'z' and 0 or reserve) and field or kind .. SEPARATOR .. OVERFLOW
      end
      local place = place_for(labels[1], labels[2], labels[3])
      if kind == FAILED and not takes(counting.an_exception, reserve) then last = OVERFLOW end
      return field_of(kind, place, last)
    end

    -- The sum of what a field holds, if anything, and more. Lua would round a sum in µs when it makes a text of it.
    local function sum_text(known, by)
      local sum = (tonumber(known or nil) or 0) + by
      if not (sum >= 0 and sum <= MOST_COUNT) then sum = clamped(sum, MOST_COUNT) end
      return string.format('%.0f', sum)
    end

    -- Adds to the hash what it had no field for. new: field -> how much.
    local function write_new(new)
      for field, by in pairs(new) do
        -- Not by HINCRBY, which stops at a value that is no integer.
        local text = sum_text(attempt('HGET', keys.counts, field), by)
        if attempt('HSET', keys.counts, field, text) then note_counted(field, text) end
      end
    end

    -- Adds what was counted to the hash.
    function write_counts()
      local fields, parts = counted_fields()
      if #fields == 0 then return end
      room, reserve = counting.room, counting.reserve
      local new = {}
      for first = 1, #fields, PUSH_AT_ONCE do
        local last = math.min(first + PUSH_AT_ONCE - 1, #fields)
        -- Two calls for many fields cost less than one HINCRBY a field.
        local before = attempt('HMGET', keys.counts, unpack(fields, first, last))
        if not before then return end
        local after, size = {}, 0
        for index = first, last do
          local known, part = before[index - first + 1], parts[index]
          if known then
            local field, text = fields[index], sum_text(known, part[4])
            after[size + 1], after[size + 2] = field, text
            size = size + 2
            note_counted(field, text)
          else
            local field = new_field(fields[index], part)
            new[field] = (new[field] or 0) + part[4]
          end
        end
        if size > 0 then attempt('HSET', keys.counts, unpack(after)) end
      end
      write_new(new)
      attempt('EXPIRE', keys.counts, options.failure_ttl)
    end
  end
end
