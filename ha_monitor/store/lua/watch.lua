-- Watches the fleet and the workers for the leader, and puts what changed into its outbox. Atomic, so each change is
-- announced once, whoever leads.
--
-- Each call looks at some of the workers, and the next one continues there; it deletes expired entries in the same way.
--
-- @include clock duty liveness merged admission outbox pieces rollback skew stored orphan_scan tables task_events
-- @include baseline trouble work
-- @include worker
-- @keys leases waiting retries dead_letters queues worker_queues stuck orphaned
-- @keys workers liveness skewed unconfirmed young producers baselines processes open names waits refusals
-- @keys announced_workers overflow_workers caught_up
-- @families worker
-- @options worker_ttl late_after
-- @option lost_after  ms of silence until a worker is lost
-- @option may_declare_lost  whether the caller has listened for so long that silence means something
-- @option together  whether workers that are lost now are announced in one event
-- @option most_looks  how many workers to look at
-- @option places  {where to continue, …} as returned by the previous call, or empty
-- @option watermark  {ms since the watermark of the fleet: what was sent until then is merged, ms since that is known};
--         nil if there is none
-- @option queues  {queue of tasks, …} as reported by the workers
-- @option consumes  {nodename, the only queue that it consumes or '' for several, …} of workers for which that is new
--
-- Returns {sequence number of the first item, items, {instances alive, tasks waiting, retries, dead letters,
-- tasks stuck, tasks orphaned}, {{nodename, state, active tasks or -1, 1 if it sends no events of the tasks that it
-- runs or 0, ms by which its clock is ahead if the worker is up and the clock is wrong or 0, when it was heard of in
-- ms, 1 if it was heard from more than once or 0, when it sent worker-online in ms or -1}, …}, {queue, …}, {where to
-- continue, …}, {{table, entries, most entries, refused}, …}, {number of late workers that send heartbeats, their
-- shortest silence in ms, their longest}, ms since the time until which all instances have merged what they received or
-- -1, the time of this call in ms}. The first place to continue is '0' when all workers were looked at. Returns false
-- if the caller does not lead; or the error LEASELOST.

-- How many workers have a line of their own in a minute: those that were never confirmed, and the others. The rest
-- share a line when all workers were looked at.
local MAX_ANNOUNCED, ANNOUNCED_FOR = { unconfirmed = 20, confirmed = 1000 }, 60
local TOGETHER = 'all workers fell silent together, and the broker delivers to this instance: look at their host, and '
  .. 'at the network between them, the broker and its nodes (rabbitmq-diagnostics cluster_status)'
local MAX_IN_A_LINE, OVERFLOW_KEPT_FOR = 20, 600 -- names; s
local MAX_ACTIVE = 1000000 -- tasks that a worker runs: a larger number is not a number of tasks
local TABLES = { 'workers', 'processes', 'heartbeats', 'starts', 'producers', 'baselines', 'names', 'queues', 'open',
  'waits' }
local SCANNED, TIDIED = 100, 100
local places = options.places
local shown = {}
local skewed = {} -- {nodename, ms by which its clock is wrong or nil}, …
local changed = {} -- nodename, its new state, …
local heard_now = {} -- nodenames whose silence counts from now on, each after that time

-- An event of the monitor's own about a worker; `since` makes it differ from the next one of its kind.
local function emit(kind, name, since, fields)
  local id = string.sub(redis.sha1hex(kind .. '\0' .. name .. '\0' .. since), 1, 24)
  local event = { type = kind, id = id, worker = fields.workers and '' or name, time = now / 1000, fields = fields }
  put_event(cmsgpack.pack(event), NIL, false)
end

local SEVERAL = { ['worker-lost'] = 'workers-lost', ['worker-recovered'] = 'workers-recovered' }
local announced, overflow, overflow_changed = {}, {}, false

-- Reads what earlier calls announced, and what they left for a common line.
local function read_announced()
  local counts = redis.call('HMGET', keys.announced_workers, 'unconfirmed', 'confirmed')
  announced.unconfirmed = stored_number(keys.announced_workers, counts[1], MAX_ENTRIES.workers) or 0
  announced.confirmed = stored_number(keys.announced_workers, counts[2], MAX_ENTRIES.workers) or 0
  for kind, group in pairs(load_packed(keys.overflow_workers) or {}) do
    local count, names = unpack(type(group) == 'table' and group or {})
    local is_group = type(count) == 'number' and number_within(count, MAX_ENTRIES.workers) and type(names) == 'table'
      and type(names[1]) == 'string'
    if is_group and SEVERAL[kind] then overflow[kind] = group end
  end
end

-- Announces the change of one worker, or adds it to a common line.
local function tell(kind, name, unconfirmed, since, silent)
  local who = unconfirmed and 'unconfirmed' or 'confirmed'
  local is_one_of_all = options.together and kind == 'worker-lost'
  if announced[who] < MAX_ANNOUNCED[who] and not is_one_of_all then
    announced[who] = announced[who] + 1
    emit(kind, name, since, { silent = math.max(0, silent) / 1000 })
    return
  end
  local group = overflow[kind] or { 0, {} }
  overflow[kind], overflow_changed = group, true
  group[1] = group[1] + 1
  if group[1] <= MAX_IN_A_LINE then group[2][group[1]] = name end
end

local function announce_overflow()
  for kind, group in pairs(overflow) do
    local reason = options.together and kind == 'worker-lost' and TOGETHER or nil
    emit(SEVERAL[kind], group[2][1], exact(now), { count = group[1], workers = group[2], reason = reason })
  end
  overflow, overflow_changed = {}, next(overflow) ~= nil
end

-- A clock is called wrong from WRONG_CLOCK ms on, and right again below RIGHT; each worker is announced once.
local RIGHT, NOTED = 30000, 5000
local watermark = options.watermark and now - options.watermark[1]
local watermark_known = options.watermark and now - options.watermark[2]

-- By how many ms a worker's clock is behind (negative: ahead), judged by its event that came last; nil if nothing
-- proves that. An event that was sent long ago may have waited, in the queue or with an instance; but not if it came
-- after everything sent until the watermark was known to be merged: then it was sent later. No event comes from the
-- future.
local function skew_found(record, heard)
  if not record.c then return nil end
  local skew = heard - record.c / 1000
  if skew < RIGHT then return skew end
  local sent_later = watermark and heard > watermark_known and watermark - record.c / 1000 >= RIGHT
  return sent_later and skew or nil
end

local is_any_skewed = attempt('EXISTS', keys.skewed) == 1

-- By how many ms a worker's clock is behind; 0 if it is about right.
local function look_at_clock(name, record, heard)
  local skew = skew_found(record, heard)
  local known, is_kept
  if is_any_skewed then known, is_kept = known_skew(name) end
  if is_kept and not known then skewed[#skewed + 1] = { name } end
  if skew == nil or record.f then return known or 0 end
  if math.abs(skew) < RIGHT then
    if known then skewed[#skewed + 1] = { name } end
    return 0
  elseif known then
    if math.abs(skew - known) < NOTED then return known end
    skewed[#skewed + 1] = { name, exact(skew) }
    return skew
  elseif math.abs(skew) >= WRONG_CLOCK and announced.confirmed < MAX_ANNOUNCED.confirmed then
    announced.confirmed = announced.confirmed + 1
    skewed[#skewed + 1] = { name, exact(skew) }
    emit('worker-clock-skew', name, exact(heard), { skew = -math.floor(skew) / 1000 })
    return skew
  end
  return 0
end

-- Stores the watermark: what is merged from now on was sent after it.
local function note_caught_up()
  if not watermark then return end
  local before = stored_time(keys.caught_up, attempt('GET', keys.caught_up))
  if before == nil or math.abs(watermark - before) >= 1000 then
    attempt('SET', keys.caught_up, exact(watermark))
  end
end

local any_lost, newly_lost = false, false
local silent = { 0, 0, 0 } -- late workers that send heartbeats: how many, their shortest silence in ms, their longest

-- After how many ms of silence a worker is lost; nil if it is too early to say. Events that it has sent since the
-- watermark may be waiting, in the queue or with an instance.
local function lost_after_of(before, heard)
  if read_lost(before) then return options.lost_after end
  local is_silent = watermark and watermark - heard > options.lost_after
  return options.may_declare_lost and is_silent and options.lost_after or nil
end

local function look_at(name, heard)
  -- A time in the future is from before Redis's clock was put back.
  if not number_within(heard, now) then
    heard = now
    heard_now[#heard_now + 1] = now
    heard_now[#heard_now + 1] = name
  end
  local raw = attempt('GET', families.worker .. name)
  has_loaded(raw and #raw or 0)
  local record = read_worker(raw)
  local before = redis.call('HGET', keys.liveness, name)
  -- A store that went back may have lost that the worker was heard of.
  local silent_since = math.max(heard, math.min(now, rollback.at()))
  local lost_after = lost_after_of(before, silent_since)
  local state, kept, change = state_of(record, silent_since, before, now, options.late_after, lost_after)
  local behind = look_at_clock(name, record, heard)
  if change then tell(change[1], name, record.f, change[2], change[3]) end
  if kept ~= before then
    changed[#changed + 1] = name
    changed[#changed + 1] = kept
  end
  if state == LOST then
    any_lost = true
    newly_lost = newly_lost or not read_lost(before)
  end
  if state == LATE and sends_heartbeats(record) then
    local length = math.floor(now - heard)
    local least = silent[1] == 0 and length or math.min(silent[2], length)
    silent = { silent[1] + 1, least, math.max(silent[3], length) }
  end
  local running = -1
  if state == OFFLINE then
    running = 0
  elseif state ~= LOST and record.b then
    running = number_within(record.b[3].active, MAX_ACTIVE) or -1
  end
  local is_silent, ahead = 0, 0
  if state == ONLINE or state == LATE then
    ahead = -behind
    local sends, unsent = task_events(name, record)
    if not sends and unsent > 0 then is_silent = 1 end
  end
  shown[#shown + 1] = { name, state, running, is_silent, ahead, math.floor(heard), record.f and 0 or 1,
    record.s and record.s[4] == 'worker-online' and math.floor(record.s[1] / 1000) or -1 }
end

-- Continues a scan; returns the entries and the next place.
local function scan(command, key, place, count)
  local following, found = unpack(redis.call(command, key, place or '0', 'COUNT', count))
  return found, following
end

-- Deletes expired entries, some in each call.
local function tidy_workers()
  local ttl = options.worker_ttl * 1000
  for _, old in ipairs({ { keys.workers, ttl }, { keys.young, ttl }, { keys.unconfirmed, KEPT_FOR.unconfirmed } }) do
    for _, name in ipairs(redis.call('ZRANGEBYSCORE', old[1], '-inf', now - old[2], 'LIMIT', 0, TIDIED)) do
      forget_worker(name)
    end
  end
  if redis.call('HLEN', keys.liveness) <= redis.call('ZCARD', keys.workers) then return '0' end
  local states, following = scan('HSCAN', keys.liveness, places[2], TIDIED)
  for index = 1, #states, 2 do
    if not redis.call('ZSCORE', keys.workers, states[index]) then redis.call('HDEL', keys.liveness, states[index]) end
  end
  return following
end

local function tidy_producers()
  local producers, following = scan('HSCAN', keys.producers, places[3], TIDIED)
  for index = 1, #producers, 2 do
    local last = stored_number(keys.producers, producers[index + 1], (now + LATEST) / 1000) or 0
    if now - last * 1000 > KEPT_FOR.producer then
      redis.call('HDEL', keys.producers, producers[index])
    end
  end
  return following
end

-- If too many names have baselines, each loses half of its runs, and a name that is left with too few loses its
-- baseline.
local function tidy_baselines()
  if redis.call('HLEN', keys.baselines) < MAX_ENTRIES.baselines then return '0' end
  local names, following = scan('HSCAN', keys.baselines, places[4], TIDIED)
  for index = 1, #names, 2 do
    local runs, mean = read_baseline(names[index + 1])
    runs = math.floor(runs / 2)
    if runs < RUNS_NEEDED / 2 then
      redis.call('HDEL', keys.baselines, names[index])
    else
      redis.call('HSET', keys.baselines, names[index], string.format('%d %.6f', runs, mean))
    end
  end
  return following
end

local function look_at_workers()
  local place = places[1] or '0'
  repeat
    local found
    found, place = scan('ZSCAN', keys.workers, place, SCANNED)
    for index = 1, #found, 2 do
      look_at(found[index], tonumber(found[index + 1]))
    end
  until place == '0' or #shown >= options.most_looks or is_full()
  if place == '0' then announce_overflow() end
  return place
end

local function write_states()
  note_caught_up()
  in_pieces(changed, 2 * PUSH_AT_ONCE, function(...) redis.call('HSET', keys.liveness, ...) end)
  in_pieces(heard_now, 2 * PUSH_AT_ONCE, function(...) redis.call('ZADD', keys.workers, 'XX', ...) end)
  for _, entry in ipairs(skewed) do
    if entry[2] then
      redis.call('HSET', keys.skewed, entry[1], entry[2])
    else
      redis.call('HDEL', keys.skewed, entry[1])
    end
  end
  if #items > 0 then
    redis.call('HSET', keys.announced_workers, 'unconfirmed', announced.unconfirmed, 'confirmed', announced.confirmed)
    if redis.call('TTL', keys.announced_workers) == -1 then
      redis.call('EXPIRE', keys.announced_workers, ANNOUNCED_FOR)
    end
  end
  if next(overflow) then
    if overflow_changed then
      redis.call('SET', keys.overflow_workers, cmsgpack.pack(overflow), 'EX', OVERFLOW_KEPT_FOR)
    end
  elseif overflow_changed then
    redis.call('DEL', keys.overflow_workers)
  end
  request_orphan_scan(any_lost, newly_lost)
end

local function note_queues()
  for _, queue in ipairs(options.queues) do
    if redis.call('ZADD', keys.queues, now, queue) == 1 and redis.call('ZCARD', keys.queues) > MAX_ENTRIES.queues then
      redis.call('ZREM', keys.queues, queue)
      refuse_entry('queues')
    end
  end
  redis.call('ZREMRANGEBYSCORE', keys.queues, '-inf', now - options.worker_ttl * 1000)
end

-- Stores which queue each worker consumes, if it is only one.
local function note_consumed()
  for index = 1, #options.consumes, 2 do
    local name, queue = options.consumes[index], options.consumes[index + 1]
    if queue == '' then
      attempt('HDEL', keys.worker_queues, name)
    else
      attempt('HSET', keys.worker_queues, name, queue)
    end
  end
  if #options.consumes > 0 then attempt('EXPIRE', keys.worker_queues, options.worker_ttl) end
  if (attempt('HLEN', keys.worker_queues) or 0) <= redis.call('ZCARD', keys.workers) then return '0' end
  local found, following = scan('HSCAN', keys.worker_queues, places[5], TIDIED)
  for index = 1, #found, 2 do
    if not redis.call('ZSCORE', keys.workers, found[index]) then
      redis.call('HDEL', keys.worker_queues, found[index])
    end
  end
  return following
end

local function sizes()
  write_refusals()
  local size_of = { -- of the tables that are one key each
    workers = { 'ZCARD', keys.workers }, processes = { 'ZCARD', keys.processes }, open = { 'ZCARD', keys.open },
    producers = { 'HLEN', keys.producers }, baselines = { 'HLEN', keys.baselines }, queues = { 'ZCARD', keys.queues },
    names = { 'ZCARD', keys.names }, waits = { 'ZCARD', keys.waits },
  }
  local found = {}
  for _, name in ipairs(TABLES) do
    local size = size_of[name] and redis.call(unpack(size_of[name])) or -1
    local refused_before = stored_number(keys.refusals, redis.call('HGET', keys.refusals, name)) or 0
    found[#found + 1] = { name, size, MAX_ENTRIES[name], refused_before }
  end
  return found
end

return leading(function()
  read_announced()
  local following = { look_at_workers() }
  local first = commit(nil, write_states)
  following[2], following[3], following[4] = tidy_workers(), tidy_producers(), tidy_baselines()
  note_queues()
  following[5] = note_consumed()
  local merged = merged_by_all()

  return {
    first,
    items,
    {
      redis.call('ZCOUNT', keys.leases, now, '+inf'),
      redis.call('ZCARD', keys.waiting),
      redis.call('ZCARD', keys.retries),
      redis.call('LLEN', keys.dead_letters),
      redis.call('HLEN', keys.stuck),
      redis.call('HLEN', keys.orphaned),
    },
    shown,
    redis.call('ZRANGE', keys.queues, 0, -1),
    following,
    sizes(),
    silent,
    merged and now - merged or -1,
    now,
  }
end)
