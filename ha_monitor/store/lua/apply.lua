-- Merges a batch of events, and puts what is to be announced into the caller's outbox. Atomic; repeating it
-- changes nothing and announces nothing, also after a call that failed half-way (outbox.lua). First everything is read
-- and computed, from `apply_task` on; then `commit` writes it.
--
-- KEYS[1] leases      zset   token of a living instance -> end of its lease, ms since the epoch
-- KEYS[2] instance    hash   the caller's entry, as outbox.lua describes it
-- KEYS[3] outbox      list   entries that the caller has yet to announce
-- KEYS[4] waiting     zset   id of a task with announcements that wait for its name -> their deadline in ms
-- KEYS[5] producers   hash   task name -> when an instance last saw a task-sent event for it, s since the epoch; for
--                             retries, <task name>\31retry
-- KEYS[6] workers     zset   nodename -> when an instance last heard of it, ms since the epoch
-- KEYS[7] counts      hash   the caller's, as counting.lua describes them
-- KEYS[8] processes   zset   <nodename>\31<pid> of a worker's process -> when an instance last heard of it, ms
-- KEYS[9] open        zset   id of a task that is not finished -> when suspects.lua looks at it, ms since the epoch
-- KEYS[10] stuck      hash   id of a task that was said to be stuck -> the phase it then was in, and since when
-- KEYS[11] orphaned   hash   the same for those said to be orphaned
-- KEYS[12] usual      hash   usual run times, as phases.lua describes them
-- KEYS[13] newcomers  zset   nodename of a worker that is not confirmed -> when it was first heard of, ms
-- KEYS[14] liveness   hash   nodename -> its state, as watch.lua writes it
-- KEYS[15] turned away  hash  as tables.lua describes it
-- KEYS[16] young      zset   nodename of a confirmed worker that has a short life so far -> when last heard of, ms
-- and, by prefix (all keys share one hash tag): ARGV[2]t:<task id> the records, ARGV[2]w:<nodename> the workers',
-- ARGV[2]s:<event id> the ids of other events seen; for each process of a worker, appended for losses.lua,
-- ARGV[2]p:<process> the times of its task-started (a double each, in µs), ARGV[2]b:<process> its heartbeats (four
-- doubles each: time in µs, runs begun, when it came in ms, 1 if it is the last).
--
-- ARGV[1] the caller's token
-- ARGV[2] prefix of the keys
-- ARGV[3] sequence number below which the caller has announced everything
-- ARGV[4] MessagePack: {success ttl s, failure ttl s, worker ttl s, wait ms, counting or false, ms
--         after which the leader first looks at an open task, or false for never}
-- ARGV[5] MessagePack: {{task id, {fact, …}}, …}, {worker fact, …}, {other fact, …}
--
-- Returns {sequence number of the first item, items, events new, events repeated, announcements that wait, what Redis
-- refused and is not worth stopping for or an empty text, how many of the tasks are merged} or the error LEASELOST. If
-- their records are large, so that Redis would be held for long, these are not all of them, and nothing behind them is
-- merged.

if not holds_lease(KEYS[1], ARGV[1]) then
  return redis.error_reply('LEASELOST the outbox of this instance was taken over')
end
begin(KEYS[3], KEYS[2], tonumber(ARGV[3]))

local now = now_ms()
local prefix = ARGV[2]
local success_ttl, failure_ttl, worker_ttl, wait, to_count, first_look = unpack(cmsgpack.unpack(ARGV[4]))
counting = to_count or nil
local tasks, workers, others = unpack(cmsgpack.unpack(ARGV[5]))
local new, repeated = 0, 0
local items = {}
local waiting_tasks = redis.call('ZCARD', KEYS[4])
-- More waits in one record for a name that does not come: what is above goes out at once.
local MOST_WAITING, MOST_WAITING_BYTES = 32, 65536
-- Redis serves nobody else meanwhile: so a call merges no more tasks once it has read so many bytes of records, or has
-- so much to write, or has worked for so many ms, which is looked at after so many events or so many bytes read.
local A_CALL = { loaded = 2 ^ 20, to_write = 1200, work = 6, events_a_look = 32, bytes_a_look = 65536 }

local write = {} -- functions that write what was computed; one table, since a script has few locals to spare

-- A queue is known only from task-sent, which is optional. Where a task's producers send it, it is worth waiting for.
local sends, producers = {}, {}

local function note_producer(name)
  if sends[name] ~= true then
    sends[name] = true
    producers[#producers + 1] = name
    producers[#producers + 1] = math.floor(now / 1000)
    to_write = to_write + TO_WRITE.index
  end
end

function write.producers()
  if #producers == 0 then return end
  if (attempt('HLEN', KEYS[5]) or 0) + #producers / 2 <= MOST.producers then
    in_pieces(producers, 2 * PUSH_AT_ONCE, function(...) attempt('HSET', KEYS[5], ...) end)
  else
    for index = 1, #producers, 2 do set_field('producers', KEYS[5], producers[index], producers[index + 1]) end
  end
  attempt('EXPIRE', KEYS[5], 86400)
end

-- A retry is sent by a worker, which need not do as the producers do.
local function sender_of(name, is_retry)
  return is_retry and name .. SEPARATOR .. 'retry' or name
end

local function is_sent_with_event(name, is_retry)
  local sender = sender_of(name, is_retry)
  if sends[sender] == nil then
    local last = tonumber(attempt('HGET', KEYS[5], sender) or nil)
    sends[sender] = last and now - last * 1000 < KEPT_FOR.producer or false
  end
  return sends[sender]
end

-- Whether the pieces that an announcement is made of are there.
local function is_complete(facts, code, at, worker)
  local awaits = EVENTS.awaits[code]
  if awaits == 'nothing' then
    return true
  elseif facts.n == nil then
    return false
  elseif code == RETRIED then
    if (facts.sc or 0) < facts.xc then return false end
  elseif awaits == 'all starts' then
    if (facts.sc or 0) <= (facts.re or 0) + (facts.jc or 0) then return false end
  elseif awaits == 'one start' then
    if (facts.sc or 0) == 0 then return false end
  end
  return runs.is_known(facts, code, at, worker, is_sent_with_event)
end

local starts, beats = {}, {}

local function append(texts, worker, pid, text)
  local process = worker .. '\31' .. string.format('%.0f', pid)
  local known = texts[process]
  if known then
    known[#known + 1] = text
  else
    texts[process] = { text, worker = worker }
    to_write = to_write + TO_WRITE.process
  end
end

local unwelcome = {} -- nodename -> true: there was no room for it

function write.appended(kind, texts, table_name, size)
  local heard_of, count = {}, 0
  for _ in pairs(texts) do count = count + 1 end
  local any_room = (attempt('ZCARD', KEYS[8]) or 0) + count <= MOST.processes
  for process, pieces in pairs(texts) do
    if not unwelcome[pieces.worker] and (any_room or enter_process(KEYS[8], prefix, process, now)) then
      local key = prefix .. kind .. process
      local length = attempt('APPEND', key, table.concat(pieces))
      attempt('EXPIRE', key, worker_ttl)
      if not length or length > MOST[table_name] * size then
        -- Without some of them the rest says nothing: the account of the process begins anew.
        if length then turn_away(table_name, length / size) end
        redis.call('DEL', keys_of_process(prefix, process))
      end
      heard_of[#heard_of + 1] = now
      heard_of[#heard_of + 1] = process
    end
  end
  in_pieces(heard_of, 2 * PUSH_AT_ONCE, function(...) attempt('ZADD', KEYS[8], ...) end)
end

-- The new events of a task that are to be counted; one table for all tasks, of which the first `fresh_size` hold.
local fresh, fresh_size = {}, 0

-- Counts those of which all is known, or all if too many wait; returns those that wait from now on.
local function count_events(facts, uncounted)
  local all = #(uncounted or {}) + fresh_size > MOST_WAITING
  local still = {}
  local function may_count(code, at, worker)
    if all then
      return true
    elseif code == WAIT then
      return is_complete(facts, STARTED, at, worker)
    end
    return is_countable(facts, code, at, worker, is_sent_with_event)
  end
  for _, entry in ipairs(uncounted or {}) do
    if may_count(entry[1], entry[2], entry[3]) then
      count_waiting(facts, entry)
    else
      still[#still + 1] = entry
    end
  end
  for index = 1, fresh_size do
    local fact = fresh[index]
    local code, at, worker = fact[2], fact[3], fact[4]
    if may_count(code, at, worker) then
      count_event(facts, code, at, worker, code == FAILED and fact[7] or fact[6])
    else
      local extra = code == FAILED and fact[7] or code == SUCCEEDED and fact[6] or false
      still[#still + 1] = { code, at, worker, extra, now }
    end
    if code == STARTED then
      if may_count(WAIT, at, worker) then
        count_wait(facts, at, worker)
      else
        still[#still + 1] = { WAIT, at, worker, false, now }
      end
    end
  end
  return still
end

local opened, closed, moved, run_times = {}, {}, {}, {}

local function note_run_time(name, seconds)
  local sum = run_times[name]
  if sum then
    sum[1], sum[2] = sum[1] + 1, sum[2] + seconds
  else
    run_times[name] = { 1, seconds }
    to_write = to_write + TO_WRITE.name
  end
end

local looks = {}

-- When the leader first looks at a task that came somewhere at a time in µs. As text, since making one of a number
-- takes longer than all the rest; the same for a whole second, since there are many.
local function look_at(at)
  local second = math.floor(at / 1000000)
  local text = looks[second]
  if text == nil then
    text = string.format('%.0f', second * 1000 + first_look)
    looks[second] = text
  end
  return text
end

-- A task is put into the index when it is first heard of, and taken out when it ends; nothing is done for what is
-- between. The leader finds out at its looks where the task then is, and when to look again.
local function note_task(uuid, facts, is_new, was_open, at)
  if facts.tk ~= nil then
    if was_open then closed[#closed + 1] = uuid end
  elseif is_new then
    opened[#opened + 1] = look_at(at > 0 and at or now * 1000)
    opened[#opened + 1] = uuid
    to_write = to_write + TO_WRITE.index
  end
end

-- A task of which something was said is news again once it is somewhere else.
local any_found = first_look and redis.call('EXISTS', KEYS[10], KEYS[11]) > 0

local function note_move(uuid, facts, before, since_before)
  local phase, since = phase_of(facts)
  if before and phase and (phase ~= before or since ~= since_before) then
    moved[#moved + 1] = uuid
    opened[#opened + 1] = look_at(since)
    opened[#opened + 1] = uuid
  end
end

function write.open()
  if #opened == 0 then return end
  if (attempt('ZCARD', KEYS[9]) or 0) < MOST.open then
    in_pieces(opened, 2 * PUSH_AT_ONCE, function(...) attempt('ZADD', KEYS[9], ...) end)
  else
    turn_away('open', #opened / 2)
    in_pieces(opened, 2 * PUSH_AT_ONCE, function(...) attempt('ZADD', KEYS[9], 'XX', ...) end)
  end
end

function write.moved()
  in_pieces(closed, PUSH_AT_ONCE, function(...) attempt('ZREM', KEYS[9], ...) end)
  if any_found then
    forget_found(KEYS[10], KEYS[11], closed)
    forget_found(KEYS[10], KEYS[11], moved)
  end
  note_run_times(KEYS[12], run_times, failure_ttl)
end

local wait_from, wait_over = {}, {}

-- Announces what is complete, and what no more of may wait; returns what waits from now on.
local function announce_complete(announce, facts, facts_text)
  if #announce == 0 then return announce end
  local still, bytes = {}, 0
  -- Each has a copy of the facts; what else it has, this call was given or has read.
  to_write = to_write + #announce * #facts_text / TO_WRITE.text
  if #announce > 1 then table.sort(announce, function(a, b) return a[3] < b[3] end) end
  for _, entry in ipairs(announce) do
    local complete = is_complete(facts, entry[2], entry[3], entry[5])
    if complete or #still >= MOST_WAITING or bytes + #entry[1] > MOST_WAITING_BYTES then
      local text = runs.text(facts, facts_text, entry[2], entry[3], entry[5])
      items[#items + 1] = event_item(entry[1], text, not complete or facts.n == nil)
    else
      still[#still + 1] = entry
      bytes = bytes + #entry[1]
    end
  end
  return still
end

local function apply_task(uuid, batch)
  local key = prefix .. 't:' .. uuid
  local facts, seen, waiting, uncounted = load_record(key)
  local had_waiting = waiting ~= nil
  fresh_size = 0
  local changed = false
  local announce = waiting or {}
  local is_new, was_open = seen == '', seen ~= '' and facts.tk == nil
  local before, since_before = nil, nil
  if any_found then before, since_before = phase_of(facts) end
  for _, fact in ipairs(batch) do
    local with = add_id(seen, fact[1])
    if with then
      seen, changed, new = with, true, new + 1
      local announced = is_reconciled(facts, fact[2])
      runs.merge(facts, fact)
      if fact[2] == SENT and fact[8] and facts.n then note_producer(sender_of(facts.n, fact[7] ~= 0)) end
      if fact[2] == STARTED and fact[6] and fact[3] > 0 then
        append(starts, fact[4], whole(fact[6], 2 ^ 32), struct.pack('>d', fact[3]))
      end
      if first_look and fact[2] == SUCCEEDED and fact[6] and facts.n then note_run_time(facts.n, fact[6]) end
      if counting and is_counted(fact[2]) and not announced then
        fresh_size = fresh_size + 1
        fresh[fresh_size] = fact
      end
      if fact[5] and not announced then announce[#announce + 1] = { fact[5], fact[2], fact[3], now, fact[4] } end
    else
      repeated = repeated + 1
    end
  end
  if not changed then return end
  if first_look then note_task(uuid, facts, is_new, was_open, batch[1][3]) end
  if any_found then note_move(uuid, facts, before, since_before) end

  runs.keep_wait(facts)
  local facts_text = pack_facts(facts)
  local still = announce_complete(announce, facts, facts_text)
  if counting then uncounted = count_events(facts, uncounted) end
  if #still > 0 or (uncounted and #uncounted > 0) then
    wait_from[#wait_from + 1] = now + wait
    wait_from[#wait_from + 1] = uuid
    to_write = to_write + TO_WRITE.index
    if not had_waiting then waiting_tasks = waiting_tasks + 1 end
  elseif had_waiting then
    wait_over[#wait_over + 1] = uuid
    waiting_tasks = waiting_tasks - 1
  end
  save_record(key, facts_text, seen, still, uncounted, facts.tk == SUCCEEDED and success_ttl or failure_ttl)
end

local ids, is_known = {}, {}

-- Remembers an event that belongs to no task; whether it is new.
local function first_time(id)
  if is_known[id] or redis.call('EXISTS', prefix .. 's:' .. id) == 1 then
    repeated = repeated + 1
    return false
  end
  is_known[id] = true
  ids[#ids + 1] = id
  new = new + 1
  return true
end

-- A worker's clock may be wrong and be put right: what it says is from later than this counts as from then, since nothing
-- that it says afterwards could be later; of two such in one millisecond, what came last is the later. Where clocks are
-- right, nothing is.
local latest = (now + 1000) * 1000 -- µs

local function is_later(at, id, entry)
  return entry == nil or at > entry[1] or (at == entry[1] and greater(id, entry[2])) or entry[1] >= latest
end

local heard, is_newcomer = {}, {} -- nodename -> its record, true
local proven = { confirmed = {}, young = {}, grown = {} } -- nodenames; those that are young, each behind a time
local worker_keys = { workers = KEYS[6], newcomers = KEYS[13], young = KEYS[16], liveness = KEYS[14] }

function write.workers()
  local heard_of = {}
  for name, record in pairs(heard) do
    if is_newcomer[name] and not admit_worker(worker_keys, prefix, name, now) then
      unwelcome[name] = true
    else
      redis.call('SET', prefix .. 'w:' .. name, cmsgpack.pack(record), 'EX', worker_ttl)
      heard_of[#heard_of + 1] = now
      heard_of[#heard_of + 1] = name
    end
  end
  in_pieces(heard_of, 2 * PUSH_AT_ONCE, function(...) redis.call('ZADD', KEYS[6], ...) end)
  in_pieces(proven.young, 2 * PUSH_AT_ONCE, function(...) redis.call('ZADD', KEYS[16], ...) end)
  in_pieces(proven.confirmed, PUSH_AT_ONCE, function(...) redis.call('ZREM', KEYS[13], ...) end)
  in_pieces(proven.grown, PUSH_AT_ONCE, function(...) redis.call('ZREM', KEYS[16], ...) end)
end

local function load_worker(name)
  local record = load_packed(prefix .. 'w:' .. name)
  if record then return checked_worker(record) end
  is_newcomer[name] = true
  return { f = now }
end

-- What one more word proves of a worker.
local function note_proof(name, record)
  if record.f and now - record.f >= KEPT_FOR.proof then
    record.f, record.y = nil, record.f
    proven.confirmed[#proven.confirmed + 1] = name
  end
  if not record.y then return end
  if now - record.y < KEPT_FOR.youth then
    proven.young[#proven.young + 1] = now
    proven.young[#proven.young + 1] = name
  else
    record.y = nil
    proven.grown[#proven.grown + 1] = name
  end
end

local function apply_worker(fact)
  local name, id, at, kind, payload, fields = fact[1], fact[2], whole(fact[3], MOST_TIME), fact[4], fact[5], fact[6]
  if payload then
    if not first_time(id) then return end
    items[#items + 1] = event_item(payload, NIL, false)
  end
  local record = heard[name] or load_worker(name)
  local part = kind == 'worker-heartbeat' and 'b' or 's'
  local merged_at, entry = math.min(at, latest), record[part]
  if entry and entry[2] == id then
    -- Another instance was given it as well.
    if not payload then repeated = repeated + 1 end
    return
  end
  local advances = is_later(merged_at, id, entry)
  if advances then record[part] = { merged_at, id, fields, part == 's' and kind or nil } end
  if not payload then
    -- Their ids are not kept; what comes too late to tell anything has mostly been merged before.
    if advances then new = new + 1 else repeated = repeated + 1 end
  end
  heard[name] = record
  if advances then note_proof(name, record) end
  local pid, processed = whole(fields.pid, 2 ^ 32), fields.processed
  if pid > 0 and at > 0 and (processed == 0 or whole(processed, MOST_COUNT) > 0) then
    processed = whole(processed, MOST_COUNT)
    append(beats, name, pid, struct.pack('>dddd', at, processed, now, kind == 'worker-offline' and 1 or 0))
  end
end

-- Merges tasks until this call has done enough, at least one; returns how many. What is behind the tasks is small, and
-- comes with the last of them.
local function merge_tasks()
  local merged, events, events_at_look, loaded_at_look = 0, 0, 0, 0

  local function is_enough()
    if loaded > A_CALL.loaded or to_write > A_CALL.to_write then return true end
    if events < events_at_look + A_CALL.events_a_look and loaded < loaded_at_look + A_CALL.bytes_a_look then
      return false
    end
    events_at_look, loaded_at_look = events, loaded
    return now_ms() - now >= A_CALL.work
  end

  for _, task in ipairs(tasks) do
    if merged > 0 and is_enough() then break end
    apply_task(task[1], task[2])
    merged, events = merged + 1, events + #task[2]
  end
  return merged
end

local merged = merge_tasks()
if merged == #tasks then
  for _, fact in ipairs(workers) do
    apply_worker(fact)
  end
  for _, fact in ipairs(others) do
    if first_time(fact[1]) then
      items[#items + 1] = event_item(fact[2], NIL, false)
    end
  end
end

-- What can be found by an index must be in it before it is there.
local function write_indexes()
  in_pieces(wait_from, 2 * PUSH_AT_ONCE, function(...) redis.call('ZADD', KEYS[4], 'NX', ...) end)
  if first_look then write.open() end
end

local function write_rest()
  in_pieces(wait_over, PUSH_AT_ONCE, function(...) redis.call('ZREM', KEYS[4], ...) end)
  for _, id in ipairs(ids) do redis.call('SET', prefix .. 's:' .. id, '', 'EX', success_ttl) end
  write.workers()
  write.producers()
  write.appended('p:', starts, 'starts', START_SIZE)
  write.appended('b:', beats, 'heartbeats', BEAT_SIZE)
  if first_look then write.moved() end
  if counting then write_counts(KEYS[7], failure_ttl) end
  write_turned_away(KEYS[15])
end

local first = commit(KEYS[3], KEYS[2], items, write_indexes, write_rest)
return { first, items, new, repeated, waiting_tasks, trouble or '', merged }
