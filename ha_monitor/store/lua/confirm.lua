-- Announces tasks that are stuck or orphaned, and reconciles those whose result is known, after the workers and the
-- result backend were asked. A duty of the leader. Atomic; a task that has moved on since it was found is left alone,
-- and nothing is announced twice, whoever leads.
--
-- Nothing is confirmed until all instances have merged what they had received when the questions were answered and the
-- queue of events was empty: the missing event may be in flight. On a broker that gives every event to all instances,
-- nothing is confirmed soon after an instance vanished either: it may be alive without a store, and may merge what only
-- it received once it has a store again.
--
-- @include clock counting duty error_groups found generated/catalogue index/ended_badly index/flow index/indexes
-- @include index/open_since lifetime limits looks merged outbox packed phases record rollback runs saving statistics
-- @include story takeovers work
-- @keys open stuck orphaned liveness
-- @families task
-- @option absent  ms for which a vanished instance may come back with events that no other received
-- @option required_watermark  when the questions were answered and the queue was empty, in ms since the epoch
-- @option confirmations  {{task_id, phase, since = in µs, kind = one of these three, with
--         'stuck': seen_in = phase in which a worker has it, confirmed_by = {what confirmed it, …}, answered = workers
--         'orphaned': must_be_lost = whether its worker must be lost, confirmed_by, answered
--         'finished': fact = of the missing event as in record.lua}, …}
--
-- Returns {sequence number of the first item, items, number of confirmations handled}: not all of them if the records
-- are large, and -1 if it is too early; false if the caller does not lead; or the error LEASELOST.

-- How long until an announced task is asked for again, in ms: a quarter of its time in the phase, so that many tasks
-- that never change leave room for others.
local MIN_LOOK_AGAIN, PART_OF_STAY = 300000, 0.25
local writes = {}

-- Holds a write until the outbox is written.
local function later(...)
  writes[#writes + 1] = { ... }
end

local function emit(kind, uuid, facts, phase, since, confirmation)
  local id = string.sub(redis.sha1hex(kind .. '\0' .. uuid .. '\0' .. stay_of(phase, since)), 1, 24)
  since = since_by_store(facts, phase, since)
  local seconds = math.floor(math.max(0, now - since / 1000)) / 1000
  local fields = {
    phase = phase, since = since / 1000000, seconds = seconds,
    confirmed_by = confirmation.confirmed_by, answered = confirmation.answered,
  }
  local worker = phase ~= SENT_PHASE and facts.w or ''
  local event = { type = kind, id = id, worker = worker, time = now / 1000, task_id = uuid, fields = fields }
  local of_phase, since_then = phase_of(facts)
  local code = of_phase == STARTED_PHASE and STARTED or SENT
  local text = runs.text(facts, packed.whole(facts), code, since_then, facts.w or '')
  put_event(cmsgpack.pack(event), text, facts.n == nil)
end

local function look_again(uuid, limit, since)
  local pause = (now - since / 1000) * PART_OF_STAY
  later('ZADD', keys.open, time_of_look(now + math.max(limit or 0, MIN_LOOK_AGAIN, pause)), uuid)
end

local function is_overdue(facts, phase, since)
  local limit = limit_of(facts.n, phase)
  return limit ~= nil and now - since_by_store(facts, phase, since) / 1000 >= limit
end

local function confirm_stuck(uuid, facts, phase, since, confirmation)
  writes[#writes + 1] = confirmation.confirmed_by[1] == 'worker' and lifetime.renewal(families.task .. uuid) or nil
  local limit, from = limit_of(facts.n, confirmation.seen_in), since_by_store(facts, phase, since)
  if limit == nil or now - from / 1000 < limit then
    -- An event is missing: the task is further than its record says, in a phase where it may stay longer. Or the task
    -- was asked for because its record would expire.
    local look_at = limit and from / 1000 + limit or now + MIN_LOOK_AGAIN
    later('ZADD', keys.open, time_of_look(look_at), uuid)
    return
  end
  look_again(uuid, limit, from)
  local stay = stay_of(phase, since)
  if redis.call('HGET', keys.stuck, uuid) == stay or redis.call('HGET', keys.orphaned, uuid) == stay then return end
  later('HSET', keys.stuck, uuid, stay)
  emit('task-stuck', uuid, facts, confirmation.seen_in, since, confirmation)
end

local function confirm_orphaned(uuid, facts, phase, since, confirmation)
  if not confirmation.must_be_lost and not is_overdue(facts, phase, since) then
    -- It was asked for because its record would expire, which is fine.
    later('ZADD', keys.open, now + MAX_FIRST_LOOK, uuid)
    return
  end
  local state = confirmation.must_be_lost and (redis.call('HGET', keys.liveness, facts.w or '') or '')
  if state and string.sub(state, 1, 4) ~= 'lost' then return end
  look_again(uuid, limit_of(facts.n, phase), since_by_store(facts, phase, since))
  local stay = stay_of(phase, since)
  if redis.call('HGET', keys.orphaned, uuid) == stay then return end
  later('HDEL', keys.stuck, uuid)
  later('HSET', keys.orphaned, uuid, stay)
  ended_badly.note_orphan(uuid, phase)
  emit('task-orphaned', uuid, facts, phase, since, confirmation)
end

local ended = {}

local function reconcile(uuid, key, facts, fact, seen, waiting, uncounted, text)
  story.begin(seen, text)
  if not story.add(fact[1], fact[3], fact[2]) then return end
  indexes.remember(facts)
  runs.merge(facts, fact)
  facts.z, facts.zt = fact[2], fact[3]
  local facts_text = packed.whole(facts)
  if fact[2] == SUCCEEDED or fact[2] == FAILED then
    statistics.note_runs(facts, { fact }, 1)
  end
  if fact[8] then
    local announced = { { fact[5], fact[2], fact[3] } }
    error_groups.add_waiting(uuid, facts, { fact[2], fact[3], fact[7], fact[8] }, announced)
  end
  if fact[5] then
    local shown = runs.text(facts, facts_text, fact[2], fact[3], fact[4])
    put_event(fact[5], shown, facts.n == nil)
  end
  if counting then
    count_event(facts, fact[2], fact[3], fact[4], fact[2] == FAILED and fact[7] or fact[6])
    count_reconciled(facts)
  end
  -- It may have been orphaned.
  indexes.note(uuid, facts, true)
  seen, text = story.whole()
  save_record(key, facts_text, seen, waiting, uncounted, text, lifetime.of(facts))
  later('ZREM', keys.open, uuid)
  open_since.leave(uuid)
  ended[#ended + 1] = uuid
end

local function confirm(confirmation)
  local uuid = confirmation.task_id
  local key = families.task .. uuid
  local facts, seen, waiting, uncounted, text = load_record(key)
  local phase, since = phase_of(facts)
  if phase ~= confirmation.phase or since ~= confirmation.since then return end
  if rollback.hides(since_by_store(facts, phase, since) / 1000) then return end
  if confirmation.kind == 'stuck' then
    confirm_stuck(uuid, facts, phase, since, confirmation)
  elseif confirmation.kind == 'orphaned' then
    confirm_orphaned(uuid, facts, phase, since, confirmation)
  elseif facts.tk == nil or confirmation.fact[3] > since then
    -- Otherwise the result is that of an earlier run.
    reconcile(uuid, key, facts, confirmation.fact, seen, waiting, uncounted, text)
  end
end

local function write_rest()
  for _, write in ipairs(writes) do redis.call(unpack(write)) end
  open_since.write()
  forget_found(ended)
  error_groups.write()
  statistics.write()
  flow.write()
  if counting then write_counts() end
end

local function is_absent()
  local latest = takeovers.latest()
  return latest ~= nil and now < latest + options.absent
end

return leading(function()
  local merged = merged_by_all()
  if merged == nil or merged < options.required_watermark + MERGE_GRACE or is_absent() then
    return { 0, {}, -1 }
  end
  local confirmed = 0
  for _, entry in ipairs(options.confirmations) do
    if confirmed > 0 and is_full() then break end
    confirm(entry)
    confirmed = confirmed + 1
  end
  local first = commit(indexes.write, write_rest)
  return { first, items, confirmed }
end)
