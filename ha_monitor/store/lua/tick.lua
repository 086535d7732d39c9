-- What time brings: renews the caller's lease, and puts into its outbox what has become due (announcements whose
-- wait is over, handler retries) and what a dead instance left behind, so much at a time. Atomic, so each is taken by
-- one instance.
--
-- KEYS[1] leases      zset   token of a living instance -> end of its lease, ms since the epoch
-- KEYS[2] instance    hash   the caller's entry, as in outbox.lua; `stats` its counters as JSON
-- KEYS[3] outbox      list   entries that the caller has yet to announce
-- KEYS[4] waiting     zset   id of a task with announcements that wait -> their deadline in ms
-- KEYS[5] retries     zset   outbox entry for one handler -> when it is due, ms since the epoch
-- KEYS[6] takeovers   list   the latest takeovers as JSON, newest first
-- KEYS[7] rejected    list   the latest messages that could not be handled as JSON, newest first
-- KEYS[8] counts      hash   the caller's, as counting.lua describes them
-- KEYS[9] leader      string the token of the leader
-- KEYS[10] returned   string when messages were last handed back to the broker, ms since the epoch
-- and, by prefix: ARGV[2]t:<task id> the records, ARGV[2]instance:<token> and ARGV[2]outbox:<token> of others.
--
-- ARGV[1] the caller's token
-- ARGV[2] prefix of the keys
-- ARGV[3] sequence number below which the caller has announced everything
-- ARGV[4] MessagePack: {lease ms, whether the caller may take over, failure ttl s, most items,
--         ms for which the broker may keep messages of an instance that vanished, counting or false,
--         whether the caller is fit to lead, ms since it had merged whatever it was given or -1, whether it handed
--         messages back to the broker since its last tick}
-- ARGV[5] the caller's counters as JSON
-- ARGV[6] … samples for `rejected`
--
-- Returns {sequence number of the first item, items, ms until more is due or -1, {JSON of each one taken over},
-- how many items precede those taken over, 1 if the caller leads or 2 if it has just followed another leader or 0, what
-- Redis refused and is not worth stopping for, or an empty text} or the error LEASELOST.

if not holds_lease(KEYS[1], ARGV[1]) then
  return redis.error_reply('LEASELOST the outbox of this instance was taken over')
end

local KEPT = 100
local MOST_BYTES = 2 ^ 20 -- of items, before the last record
local MOST_TO_WRITE = 1200 -- as in record.lua, before the last record
local prefix = ARGV[2]
local lease, may_take_over, failure_ttl, most, held, to_count, fit, merged_ago, handed_back = unpack(cmsgpack.unpack(ARGV[4]))
counting = to_count or nil
local now = now_ms()
local items, taken = {}, {}

begin(KEYS[3], KEYS[2], tonumber(ARGV[3]))
redis.call('ZADD', KEYS[1], now + lease, ARGV[1])
redis.call('HSET', KEYS[2], 'stats', ARGV[5], 'seen', now)
if merged_ago >= 0 then
  redis.call('HSET', KEYS[2], 'merged', now - merged_ago)
end
if handed_back then
  redis.call('SET', KEYS[10], now, 'EX', 3600)
end
for index = 6, #ARGV do
  attempt('LPUSH', KEYS[7], ARGV[index])
end
attempt('LTRIM', KEYS[7], 0, KEPT - 1)

-- One instance leads, for as long as its lease holds and it is fit. Its token is the fencing token of its duties.
local function lead()
  local leader = redis.call('GET', KEYS[9])
  if leader == ARGV[1] then
    if fit then return 1 end
    -- Not deleted: whoever is next must know that it follows another.
    redis.call('SET', KEYS[9], 'none')
    return 0
  elseif not fit or (leader and tonumber(redis.call('ZSCORE', KEYS[1], leader) or 0) > now) then
    return 0
  end
  redis.call('SET', KEYS[9], ARGV[1])
  return leader and 2 or 1
end

local leads = lead()

-- An instance that froze or lost its network still holds messages, until the broker notices. The name of a task may
-- be among them, so announcements without one wait for that long, but not for ever.
local LONGEST_WAIT = 120000

local function may_be_held(since)
  if now - since > LONGEST_WAIT then
    return false
  end
  local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  -- Leases are renewed five times in their length: one this short is of an instance that has fallen silent.
  if first[2] and tonumber(first[2]) - now < 0.7 * lease then
    return true
  end
  local latest = latest_takeover(KEYS[6])
  return latest and now - latest < held
end

local bytes = 0

-- Whether one more entry fits into this call.
local function has_room()
  return #items < most and bytes < MOST_BYTES and to_write < MOST_TO_WRITE
end

local function take(entry)
  items[#items + 1] = entry
  bytes = bytes + #entry
end

local put_off, waited = {}, {}

for _, uuid in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now, 'LIMIT', 0, most)) do
  if not has_room() then break end
  local key = prefix .. 't:' .. uuid
  local facts, seen, waiting, uncounted = load_record(key)
  local since = waiting and waiting[1] and waiting[1][4] or uncounted and uncounted[1][5]
  if since and facts.n == nil and may_be_held(since) then
    put_off[#put_off + 1] = now + 1000
    put_off[#put_off + 1] = uuid
  else
    waited[#waited + 1] = uuid
  end
  if since and waited[#waited] == uuid then
    local facts_text = pack_facts(facts)
    for _, entry in ipairs(waiting) do
      local text = runs.text(facts, facts_text, entry[2], entry[3], entry[5] or '')
      take(event_item(entry[1], text, facts.n == nil))
    end
    if counting then
      for _, entry in ipairs(uncounted or {}) do
        count_waiting(facts, entry)
      end
    end
    save_record(key, facts_text, seen, nil, nil, math.max(redis.call('TTL', key), 1))
  end
end

local retried = {}

for _, entry in ipairs(redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', now, 'LIMIT', 0, most)) do
  if not has_room() then break end
  take(entry)
  retried[#retried + 1] = entry
end

local own = #items
local left_behind = {} -- {token, entries taken, whether that is all}

if may_take_over then
  for _, token in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
    if not has_room() then break end
    local outbox = prefix .. 'outbox:' .. token
    local left = unless_foreign('LRANGE', outbox, 0, most - #items - 1)
    -- What is no outbox stays until somebody has looked at it; it is said at each tick.
    if left then
      for _, entry in ipairs(left) do take(entry) end
      left_behind[#left_behind + 1] = { token, #left, #left == redis.call('LLEN', outbox) }
    end
  end
end

-- What is taken away from another one is in the caller's outbox by now: should it fail between two of these, it is
-- taken over once more, and announced again, as `recovered`.
local function write_takeover(token, count, whole)
  local outbox, instance = prefix .. 'outbox:' .. token, prefix .. 'instance:' .. token
  local who = unless_foreign('HMGET', instance, 'who', 'seen', 'taken') or {}
  local entries = (tonumber(who[3] or nil) or 0) + count
  if not whole then
    redis.call('LTRIM', outbox, count, -1)
    unless_foreign('HSET', instance, 'taken', entries)
    return
  end
  local report = cjson.encode({ who = who[1] or '{}', seen = tonumber(who[2] or nil) or 0, at = now, entries = entries })
  taken[#taken + 1] = report
  attempt('LPUSH', KEYS[6], report)
  attempt('LTRIM', KEYS[6], 0, KEPT - 1)
  redis.call('DEL', outbox, instance)
  redis.call('ZREM', KEYS[1], token)
end

local function write_rest()
  in_pieces(put_off, 2 * PUSH_AT_ONCE, function(...) redis.call('ZADD', KEYS[4], ...) end)
  in_pieces(waited, PUSH_AT_ONCE, function(...) redis.call('ZREM', KEYS[4], ...) end)
  in_pieces(retried, PUSH_AT_ONCE, function(...) redis.call('ZREM', KEYS[5], ...) end)
  for _, entry in ipairs(left_behind) do write_takeover(entry[1], entry[2], entry[3]) end
  if counting then write_counts(KEYS[8], failure_ttl) end
end

local first
first, own = commit(KEYS[3], KEYS[2], items, nil, write_rest, own)

local next_due = -1
for _, key in ipairs({ KEYS[4], KEYS[5] }) do
  local earliest = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if earliest[2] then
    local left = math.max(0, tonumber(earliest[2]) - now)
    next_due = next_due < 0 and left or math.min(next_due, left)
  end
end
return { first, items, next_due, taken, own, leads, trouble or '' }
