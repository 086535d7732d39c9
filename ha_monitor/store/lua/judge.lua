-- Announces tasks that are stuck or orphaned, and repairs those whose result is known, after the workers and the result
-- backend were asked. A duty of the leader. Atomic; a task that has moved on since it was found is left alone, and
-- nothing is announced twice, whoever leads.
--
-- Nothing is judged before all instances have merged what they had been given when the questions were answered and the
-- queue of events was empty: the event that is missed may be on its way.
--
-- KEYS[1] leases      zset    token of a living instance -> end of its lease, ms since the epoch
-- KEYS[2] instance    hash    the caller's entry, as in outbox.lua
-- KEYS[3] outbox      list    entries that the caller has yet to announce
-- KEYS[4] leader      string  the token of the leader
-- KEYS[5] open        zset    id of a task that is not finished -> when to look at it, ms since the epoch
-- KEYS[6] stuck       hash    id of a task that was said to be stuck -> the phase it then was in, and since when
-- KEYS[7] orphaned    hash    the same for those said to be orphaned
-- KEYS[8] usual       hash    usual run times, as phases.lua describes them
-- KEYS[9] liveness    hash    nodename -> its state, as watch.lua writes it
-- KEYS[10] takeovers  list    the latest takeovers as JSON, newest first
-- KEYS[11] returned   string  when messages were last handed back to the broker, ms since the epoch
-- KEYS[12] counts     hash    the caller's, as counting.lua describes them
-- and, by prefix: ARGV[2]t:<task id> the records, ARGV[2]instance:<token> the entries of all instances.
--
-- ARGV[1] the caller's token
-- ARGV[2] prefix of the keys
-- ARGV[3] sequence number below which the caller has announced everything
-- ARGV[4] MessagePack: {limits as in phases.lua, when that was in ms since the epoch, ms for which the broker may keep
--         messages of an instance that vanished, success ttl s, failure ttl s, counting or false}
-- ARGV[5] MessagePack: {{task id, phase, since when in µs, verdict, …}, …}, where a verdict is one of
--         'stuck', phase in which a worker has it, {what confirmed it, …}, workers that answered
--         'orphaned', whether its worker must be lost, {what confirmed it, …}, workers that answered
--         'finished', fact of the missing event as in record.lua
--
-- Returns {sequence number of the first item, items, 1}; with 0 instead of 1 if it is too early; nothing if the caller
-- does not lead; or the error LEASELOST.

-- Until a task that was announced is asked for again, in ms: a quarter of the time for which it has been there, so that
-- many that never change leave room for others.
local LEAST_LOOK_AGAIN, MOST_LOOK_AGAIN, PART_OF_STAY = 300000, 3600000, 0.25
local prefix = ARGV[2]
local limits, settled_at, held, success_ttl, failure_ttl, to_count = unpack(cmsgpack.unpack(ARGV[4]))
counting = to_count or nil
local now = now_ms()
local items, writes = {}, {}

-- A write for after the outbox.
local function later(...)
  writes[#writes + 1] = { ... }
end

local merged = merged_by_all(KEYS[1], KEYS[10], KEYS[11], prefix, held, now)
if merged == nil or merged < settled_at + MERGE_GRACE then
  return { 0, {}, 0 }
end

local function emit(kind, uuid, facts, phase, since, confirmed_by, answered)
  local id = string.sub(redis.sha1hex(kind .. '\0' .. uuid .. '\0' .. stay_of(phase, since)), 1, 24)
  local seconds = math.floor(math.max(0, now - since / 1000)) / 1000
  local fields = {
    phase = phase, since = since / 1000000, seconds = seconds, confirmed_by = confirmed_by, answered = answered,
  }
  local worker = phase ~= SENT_PHASE and facts.w or ''
  local event = { type = kind, id = id, worker = worker, time = now / 1000, task_id = uuid, fields = fields }
  items[#items + 1] = event_item(cmsgpack.pack(event), pack_facts(facts), facts.n == nil)
end

local function look_again(uuid, limit, since)
  local patience = math.min(MOST_LOOK_AGAIN, (now - since / 1000) * PART_OF_STAY)
  later('ZADD', KEYS[5], now + math.max(limit or 0, LEAST_LOOK_AGAIN, patience), uuid)
end

local function judge_stuck(uuid, facts, phase, since, seen_in, confirmed_by, answered)
  local limit = limit_of(limits, KEYS[8], facts.n, seen_in)
  if limit == nil or now - since / 1000 < limit then
    -- An event is missing: the task is further than its record, where it may stay for longer.
    later('ZADD', KEYS[5], limit and since / 1000 + limit or now + LEAST_LOOK_AGAIN, uuid)
    return
  end
  look_again(uuid, limit, since)
  local stay = stay_of(phase, since)
  if redis.call('HGET', KEYS[6], uuid) == stay or redis.call('HGET', KEYS[7], uuid) == stay then return end
  later('HSET', KEYS[6], uuid, stay)
  emit('task-stuck', uuid, facts, seen_in, since, confirmed_by, answered)
end

local function judge_orphaned(uuid, facts, phase, since, must_be_lost, confirmed_by, answered)
  if must_be_lost and string.sub(redis.call('HGET', KEYS[9], facts.w or '') or '', 1, 4) ~= 'lost' then return end
  look_again(uuid, limit_of(limits, KEYS[8], facts.n, phase), since)
  local stay = stay_of(phase, since)
  if redis.call('HGET', KEYS[7], uuid) == stay then return end
  later('HDEL', KEYS[6], uuid)
  later('HSET', KEYS[7], uuid, stay)
  emit('task-orphaned', uuid, facts, phase, since, confirmed_by, answered)
end

local ended = {}

local function repair(uuid, key, facts, fact, seen, waiting, uncounted)
  local with = add_id(seen, fact[1])
  if not with then return end
  runs.merge(facts, fact)
  facts.z, facts.zt = fact[2], fact[3]
  local facts_text = pack_facts(facts)
  if fact[5] then
    local text = runs.text(facts, facts_text, fact[2], fact[3], fact[4])
    items[#items + 1] = event_item(fact[5], text, facts.n == nil)
  end
  if counting then
    count_event(facts, fact[2], fact[3], fact[4], fact[2] == FAILED and fact[7] or fact[6])
    count_reconciled(facts)
  end
  save_record(key, facts_text, with, waiting, uncounted, facts.tk == SUCCEEDED and success_ttl or failure_ttl)
  later('ZREM', KEYS[5], uuid)
  ended[#ended + 1] = uuid
end

for _, entry in ipairs(cmsgpack.unpack(ARGV[5])) do
  local uuid, verdict = entry[1], entry[4]
  local key = prefix .. 't:' .. uuid
  local facts, seen, waiting, uncounted = load_record(key)
  local phase, since = phase_of(facts)
  if phase == entry[2] and since == entry[3] then
    if verdict == 'stuck' then
      judge_stuck(uuid, facts, phase, since, entry[5], entry[6], entry[7])
    elseif verdict == 'orphaned' then
      judge_orphaned(uuid, facts, phase, since, entry[5], entry[6], entry[7])
    else
      repair(uuid, key, facts, entry[5], seen, waiting, uncounted)
    end
  end
end

local first = commit(KEYS[3], KEYS[2], items, nil, function()
  for _, write in ipairs(writes) do redis.call(unpack(write)) end
  forget_found(KEYS[6], KEYS[7], ended)
  if counting then write_counts(KEYS[12], failure_ttl) end
end)
return { first, items, 1 }
