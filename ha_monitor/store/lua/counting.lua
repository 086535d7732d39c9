-- Counts events for the metrics of an instance.
--
-- The counts are in one hash for each instance, written in the same call that merges the events. So an event is counted
-- exactly once, whatever crashes meanwhile, and an instance that restarts continues with its old counts.
--
-- A field is made of parts with SEPARATOR between them:
--   {code, name, worker, queue, exception}   events of that code (events/catalogue.py); exception with FAILED only
--   {'r', name, worker, queue, le}           runs that took at most `le` seconds, and more than the bound below
--   {'R', name, worker, queue, ''}           their sum in µs
--   {'w', …} {'W', …}                        the same for the wait before each run (runs.lua)
-- `worker` is a nodename, but for SENT the host of the producer, because a producer's nodename contains its process id.
-- {'l', nodename} is the number of lost events (losses.lua; the nodename is empty if workers are not told apart),
-- {'z', name} the number of missing ends that were added (confirm.lua). {'s', nodename} is the number of runs that
-- began before their attempt was sent, by the clocks of two hosts, {'S', nodename} the total of these differences, in
-- µs.
--
-- Name, worker and queue are a label set. All label sets that any instance has counted are in one sorted set, so each
-- instance can export every counter of a label set as 0 before it counts anything for it. A new label set needs room.
--
-- @include cells clock consumed counted generated/catalogue numbers pieces runs trouble
-- @keys counts label_sets
-- @option counting  how events are counted, see below; nil for not at all
-- @options failure_ttl

local SEPARATOR = '\31'
local WAIT = -1 -- a code that no event has
-- {buckets = upper bounds of the histograms in ascending order, workers = how workers are told apart: 'nodename',
-- 'hostname', or 'none', worker_histograms = whether the histograms tell them apart, too, room = how many samples may
-- be added, reserve = how many of these are only for label sets without a worker, a_label_set, an_exception = how many
-- samples one of them adds, default_queue = the queue where none is known}; nil if nothing is counted.
local counting = options.counting

local count_event, count_wait, count_waiting, count_run, count_reconciled, count_lost, is_countable
local write_counts, add_label_set

do
  local UNKNOWN, OVERFLOW = 'unknown', 'overflow'
  local events_of, count, observe = cells.events_of, cells.count, cells.observe

  local hosts = {} -- nodename -> its host

  -- The label by which a worker is told apart under the setting. A producer has no stable nodename.
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

  local places = {} -- name -> queue, or false -> {workers = {[nodename] = the events of a cell}, producers = likewise}

  local function place_of(name, queue)
    local of_name = places[name]
    local place = of_name and of_name[queue]
    if not place then
      place = { workers = {}, producers = {} }
      of_name = of_name or {}
      places[name], of_name[queue] = of_name, place
    end
    return place
  end

  local function new_events(place, name, queue, worker, is_producer)
    local label = worker_label(worker, is_producer)
    local events = events_of(name, label, queue or consumed.label(worker, is_producer))
    place[is_producer and 'producers' or 'workers'][worker] = events
    return events
  end

  -- The kinds with one label: label -> amount. The nodename is empty if workers are not told apart.
  local with_one_label = { z = {}, l = {}, s = {}, S = {} }

  local function add_to(kind, label, by)
    with_one_label[kind][label] = (with_one_label[kind][label] or 0) + by
  end

  -- Whether the labels of an event are known.
  function is_countable(facts, code, at, worker, sends)
    return facts.n ~= nil and runs.is_queue_known(facts, code, at, worker, sends)
  end

  -- Counts one event; of a start, not the wait before it.
  -- extra: the run time in seconds with SUCCEEDED, the exception's text with FAILED; or nil.
  function count_event(facts, code, at, worker, extra)
    local name, queue = facts.n or UNKNOWN, facts.at and runs.queue(facts, code, at, worker) or facts.q or false
    local place, is_producer = place_of(name, queue), code == SENT
    local events = (is_producer and place.producers or place.workers)[worker]
    count(events or new_events(place, name, queue, worker, is_producer), code, extra)
  end

  -- Counts the wait before a start. A negative wait is an error of the clocks.
  function count_wait(facts, at, worker)
    local wait, missing = runs.wait(facts, at, worker)
    if missing > 0 then
      local label = worker_label(worker)
      add_to('s', label, 1)
      add_to('S', label, missing)
    end
    if not wait then return end
    local name, queue = facts.n or UNKNOWN, runs.queue(facts, STARTED, at, worker) or false
    local place = place_of(name, queue)
    observe(place.workers[worker] or new_events(place, name, queue, worker, false), 'waits', wait / 1000000)
  end

  -- Counts the new events of a task with a single run whose wait is stored (runs.keep_wait), and that wait.
  function count_run(facts, fresh, fresh_size)
    local name, queue, wait = facts.n or UNKNOWN, facts.q or false, facts.qw
    local place = place_of(name, queue)
    local workers = place.workers
    for index = 1, fresh_size do
      local fact = fresh[index]
      local code, worker = fact[2], fact[4]
      if code == SENT then
        count(place.producers[worker] or new_events(place, name, queue, worker, true), code)
      else
        local events = workers[worker] or new_events(place, name, queue, worker, false)
        count(events, code, code == FAILED and fact[7] or fact[6])
        if code == STARTED then
          -- A wait that is stored is one about which no clock is wrong.
          if wait and wait > 0 then
            observe(events, 'waits', wait / 1000000)
          else
            count_wait(facts, fact[3], worker)
          end
        end
      end
    end
  end

  -- Counts an event that was waiting; an entry with code WAIT is the wait before a start.
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

    -- Takes room for so many more samples; returns whether there was enough.
    local function takes(samples, kept)
      if room - kept < samples then return false end
      room = room - samples
      note_samples(samples)
      return true
    end

    local MAX_AHEAD = 86400000 -- ms by which Redis's clock may have been put back
    local latest_added

    -- Each label set gets a later time than all before, so an instance that knows some asks only for later ones.
    local function insert_label_set(label_set)
      if not latest_added then
        local latest = tonumber((attempt('ZREVRANGE', keys.label_sets, 0, 0, 'WITHSCORES') or {})[2]) or 0
        latest_added = latest < now + MAX_AHEAD and latest or 0
      end
      latest_added = math.max(now, latest_added + 1)
      attempt('ZADD', keys.label_sets, string.format('%.0f', latest_added), label_set)
    end

    function add_label_set(label_set)
      if not attempt('ZSCORE', keys.label_sets, label_set) then insert_label_set(label_set) end
    end

    local label_sets = {} -- label set -> the {name, worker, queue} under which it is counted

    -- The labels under which an instance counts something for the first time: without the worker if there is little
    -- room, and OVERFLOW alone if there is none.
    local function label_set_for(name, worker, queue)
      local label_set = name .. SEPARATOR .. worker .. SEPARATOR .. queue
      local place = label_sets[label_set]
      if place then return place end
      place = { name, worker, queue }
      if not attempt('ZSCORE', keys.label_sets, label_set) then
        if name == OVERFLOW or takes(counting.a_label_set, worker ~= '' and reserve or 0) then
          insert_label_set(label_set)
        elseif worker ~= '' then
          place = label_set_for(name, '', queue)
        else
          place = label_set_for(OVERFLOW, OVERFLOW, OVERFLOW)
        end
      end
      label_sets[label_set] = place
      return place
    end

    local HISTOGRAM = { r = true, R = true, w = true, W = true }

    -- The field of a count.
    local function field_of(kind, labels, last)
      local name, worker, queue = labels[1], labels[2], labels[3]
      if HISTOGRAM[kind] and not counting.worker_histograms and name ~= OVERFLOW then worker = '' end
      return kind .. SEPARATOR .. name .. SEPARATOR .. worker .. SEPARATOR .. queue .. SEPARATOR .. last
    end

    -- The field under which something is counted for the first time.
    local function new_field(field)
      local kind = string.match(field, '^[^' .. SEPARATOR .. ']*')
      if with_one_label[kind] then
        return takes(1, kind == 'z' and 0 or reserve) and field or kind .. SEPARATOR .. OVERFLOW
      end
      local between, last = string.match(field, '(' .. SEPARATOR .. '.*' .. SEPARATOR .. ')(.*)$')
      local place = label_set_for(cells.labels_of(kind, between))
      if kind == FAILED .. '' and not takes(counting.an_exception, reserve) then last = OVERFLOW end
      return field_of(kind, place, last)
    end

    -- The sum of a field's value, if it has one, and an amount.
    local function sum_of(known, by)
      local sum = (tonumber(known or nil) or 0) + by
      if sum >= 0 and sum <= MAX_COUNT then return sum end
      return clamped(sum, MAX_COUNT)
    end

    -- Redis searches a small hash (a listpack) from its beginning for each field. After a name longer than
    -- hash-max-listpack-value was in it, the hash is a hash table, which finds each field at once.
    local LONG = string.rep('long', 20)

    -- Adds fields that the hash does not have yet. new: field -> amount.
    local function write_new(new)
      if next(new) == nil then return end
      attempt('HSET', keys.counts, LONG, 0)
      attempt('HDEL', keys.counts, LONG)
      for field, by in pairs(new) do
        -- Not by HINCRBY, which stops at a value that is no integer.
        local sum = sum_of(attempt('HGET', keys.counts, field), by)
        if attempt('HSET', keys.counts, field, sum) then note_counted(field, sum) end
      end
    end

    -- Adds what was counted to the hash.
    function write_counts()
      local fields, amounts = {}, {}
      local size = cells.add_fields(fields, amounts, 0)
      for kind, of_kind in pairs(with_one_label) do
        for label, by in pairs(of_kind) do
          size = size + 1
          fields[size], amounts[size] = kind .. SEPARATOR .. label, by
        end
      end
      if size == 0 then return end
      room, reserve = counting.room, counting.reserve
      local new = {}
      for first = 1, size, PUSH_AT_ONCE do
        local last = math.min(first + PUSH_AT_ONCE - 1, size)
        -- Two calls for many fields; replicas and the append-only file get each as one command.
        local before = attempt('HMGET', keys.counts, unpack(fields, first, last))
        if not before then return end
        local after, filled = {}, 0
        for index = first, last do
          local known, field = before[index - first + 1], fields[index]
          if known then
            local sum = (tonumber(known) or 0) + amounts[index]
            if not (sum >= 0 and sum <= MAX_COUNT) then sum = clamped(sum, MAX_COUNT) end
            -- As a number: Redis turns it into text exactly, and faster than Lua.
            after[filled + 1], after[filled + 2] = field, sum
            filled = filled + 2
          else
            local place = new_field(field)
            new[place] = (new[place] or 0) + amounts[index]
          end
        end
        if filled > 0 then
          attempt('HSET', keys.counts, unpack(after))
          note_all_counted(after, filled)
        end
      end
      write_new(new)
      attempt('EXPIRE', keys.counts, options.failure_ttl)
    end
  end
end
