-- What is due at a time: renews the caller's lease, and puts into its outbox what has become due (announcements whose
-- wait is over, handler retries) and what a dead instance left behind, a limited amount in each call. Atomic, so only
-- one instance takes each entry.
--
-- @include clock counting deadlines error_groups index/indexes index/open_since lease merged outbox packed pieces
-- @include record rollback runs saving stored trouble work
-- @keys leases instance waiting retries takeovers rejected leader requeued counting label_sets
-- @families task instance outbox
-- @options token lease requeue_delay name_wait failure_ttl
-- @option stats  the caller's counters as JSON
-- @option rejected  samples of messages that could not be handled, as JSON
-- @option may_take_over  whether the caller may take over the outboxes of others
-- @option most  items at most
-- @option eligible  whether the caller is eligible to lead: it consumes
-- @option watermark_age  age of the caller's watermark in ms; nil if that is not known
-- @option looked_after  when it had that age: ms after the caller had the reply of its last tick; nil for now
-- @option requeued  whether messages of it were requeued since its last tick
-- @option counts_as  the name under which the caller counts; nil if it counts nothing
-- @option label_sets_after  when the latest label set that the caller knows was added, in ms since the epoch
-- @option own_label_sets  label sets under which it has counted, and which may be missing
--
-- Returns {sequence number of the first item, items, ms until more is due or -1, {the report of each takeover as JSON},
-- how many items precede those taken over, 1 if the caller leads or 2 if it has just followed another leader or 0, ms
-- by which Redis's clock was put back since the previous tick or 0, {number of label sets, label set, when it was
-- added, …}} or the error LEASELOST.

local KEPT = 100
local MAX_BYTES = 2 ^ 20 -- of items, before the last record is added
local MAX_OUTBOXES, A_PIECE = 100, 10 -- outboxes that are taken over; entries that are read at once
local taken = {}

-- Renews the caller's lease, and publishes what it reports about itself.
local function renew()
  local looked_at = now
  if options.looked_after then
    -- The caller may have been stopped since then. Because the reply took time, this is a little too early, if
    -- anything.
    local seen = stored_number(keys.instance, unless_foreign('HGET', keys.instance, 'seen'))
    looked_at = seen and math.min(now, seen + options.looked_after) or now
  end
  redis.call('ZADD', keys.leases, now + options.lease, options.token)
  redis.call('HSET', keys.instance, 'stats', options.stats, 'seen', now, 'lease', options.lease)
  if options.watermark_age then
    redis.call('HSET', keys.instance, 'merged', looked_at - options.watermark_age)
  end
  if options.requeued then
    -- The broker may not have noticed yet that a link broke.
    redis.call('SET', keys.requeued, now + options.requeue_delay, 'EX', 3600)
  end
  for _, sample in ipairs(options.rejected) do
    attempt('LPUSH', keys.rejected, sample)
  end
  attempt('LTRIM', keys.rejected, 0, KEPT - 1)
end

-- One instance leads, for as long as its lease holds and it is eligible. Its token is the fencing token of its duties.
local function lead()
  local leader = redis.call('GET', keys.leader)
  if leader == options.token then
    if options.eligible then return 1 end
    -- Not deleted: the next leader must know that it follows another.
    redis.call('SET', keys.leader, 'none')
    return 0
  elseif not options.eligible or (leader and tonumber(redis.call('ZSCORE', keys.leases, leader) or 0) > now) then
    return 0
  end
  redis.call('SET', keys.leader, options.token)
  return leader and 2 or 1
end

-- The missing event may be with an instance that is busy, frozen or cut off, or with the broker, which notices that
-- later. So an announcement waits until all instances have merged what they had received when the wait began; but not
-- for ever. An instance that receives nothing must not decide that the wait is over: what was requeued may still be
-- with the broker, and all instances without a link to it have merged what they had. Nor is it over while, after the
-- store went back, an instance may not have returned and merged again what the store lost.
local MAX_WAIT = 120000
local waited_enough -- what has waited since this time or longer has waited long enough, in ms

local function find_waited_enough()
  waited_enough = now - options.name_wait
  local earliest = redis.call('ZRANGE', keys.waiting, 0, 0, 'WITHSCORES')[2]
  if options.name_wait > 0 and earliest and tonumber(earliest) <= now then
    local is_given = options.eligible or options.requeue_delay == 0
    local are_back = not rollback.is_recent(math.max(options.requeue_delay, options.lease))
    local merged = (is_given and are_back and merged_by_all() or 0) - MERGE_GRACE
    waited_enough = math.max(now - MAX_WAIT, math.min(waited_enough, merged))
  end
end

-- Whether a wait that began at a time is over. A time in the future is from a clock that was put back.
local function has_waited(since)
  return since <= waited_enough or since > now
end

local bytes = 0

-- Whether one more entry fits into this call. Reading does not count: otherwise waiting announcements, none of which is
-- ready yet, could prevent a takeover.
local function has_room()
  return #items < options.most and bytes < MAX_BYTES and not writes_enough()
end

local function take(entry)
  put(entry)
  bytes = bytes + #entry
end

local put_off, waited = {}, {}

-- Announces or counts, with `tell`, the entries of a record whose wait is over; returns the rest, and since when it
-- waits.
local function tell_waited(entries, since_at, tell)
  local rest, since = {}, math.huge
  for _, entry in ipairs(entries or {}) do
    if has_waited(entry[since_at]) then
      tell(entry)
    else
      rest[#rest + 1] = entry
      since = math.min(since, entry[since_at])
    end
  end
  return rest, since
end

local function take_waiting_of(uuid)
  local key = families.task .. uuid
  local facts, seen, waiting, uncounted, story_text = load_record(key)
  if not waiting and not uncounted and not facts.gw then
    waited[#waited + 1] = uuid
    return
  end
  local since, since_uncounted, since_errors
  facts.gw, since_errors = tell_waited(facts.gw, 5, function(entry)
    error_groups.add_waiting(uuid, facts, entry, waiting)
  end)
  if #facts.gw == 0 then facts.gw = nil end
  local facts_text = packed.whole(facts)
  waiting, since = tell_waited(waiting, 4, function(entry)
    local text = runs.text(facts, facts_text, entry[2], entry[3], entry[5] or '')
    put_event(entry[1], text, facts.n == nil, entry[4])
    bytes = bytes + #items[#items]
  end)
  uncounted, since_uncounted = tell_waited(uncounted, 5, function(entry)
    if counting then count_waiting(facts, entry) end
  end)
  since = math.min(since, since_uncounted, since_errors)
  if since == math.huge then
    waited[#waited + 1] = uuid
  else
    put_off[#put_off + 1] = string.format('%.0f', since + options.name_wait)
    put_off[#put_off + 1] = uuid
  end
  save_record(key, facts_text, seen, waiting, uncounted, story_text, math.max(redis.call('TTL', key), 1))
end

-- Takes the announcements whose wait is over.
local function take_waiting()
  find_waited_enough()
  local looked, due = 0, string.format('%.0f', waited_enough + options.name_wait)
  for _, uuid in ipairs(redis.call('ZRANGEBYSCORE', keys.waiting, '-inf', due, 'LIMIT', 0, options.most)) do
    if not has_room() or (looked > 0 and is_enough(1)) then break end
    looked = looked + 1
    take_waiting_of(uuid)
  end
end

local retried = {}

local function take_retries()
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', keys.retries, '-inf', now, 'LIMIT', 0, options.most)) do
    if not has_room() then break end
    take(entry)
    retried[#retried + 1] = entry
  end
end

local left_behind = {} -- {token, entries taken, whether that is all}

-- Takes entries from the outboxes of instances whose leases expired.
local function take_over()
  for _, token in ipairs(redis.call('ZRANGEBYSCORE', keys.leases, '-inf', now, 'LIMIT', 0, MAX_OUTBOXES)) do
    if not has_room() then break end
    local outbox = families.outbox .. token
    local left = unless_foreign('LLEN', outbox)
    -- A key that is not a list stays until somebody has looked at it; it is reported at each tick.
    if left then
      local count = 0
      while count < left and has_room() do
        local last = count + math.min(A_PIECE, options.most - #items) - 1
        for _, entry in ipairs(redis.call('LRANGE', outbox, count, last)) do
          take(entry)
          count = count + 1
        end
      end
      left_behind[#left_behind + 1] = { token, count, count == left }
    end
  end
end

-- The entries are in the caller's outbox by now: if this fails in between, they are taken over once more, and announced
-- again, as `recovered`.
local function write_takeover(token, count, whole)
  local outbox, instance = families.outbox .. token, families.instance .. token
  local who = unless_foreign('HMGET', instance, 'who', 'seen', 'taken', 'calls') or {}
  local entries = (stored_number(instance, who[3]) or 0) + count
  if not whole then
    redis.call('LTRIM', outbox, count, -1)
    unless_foreign('HSET', instance, 'taken', entries)
    return
  end
  local seen = stored_number(instance, who[2]) or 0
  local report = cjson.encode({
    token = token,
    who = who[1] or '{}',
    seen = seen,
    at = now,
    entries = entries,
    calls = stored_number(instance, who[4]) or 0,
  })
  taken[#taken + 1] = report
  attempt('LPUSH', keys.takeovers, report)
  attempt('LTRIM', keys.takeovers, 0, KEPT - 1)
  redis.call('DEL', outbox, instance)
  redis.call('ZREM', keys.leases, token)
end

-- call: the number of this one.
local function write_rest(call)
  in_pieces(put_off, 2 * PUSH_AT_ONCE, function(...) redis.call('ZADD', keys.waiting, ...) end)
  in_pieces(waited, PUSH_AT_ONCE, function(...) redis.call('ZREM', keys.waiting, ...) end)
  in_pieces(retried, PUSH_AT_ONCE, function(...) redis.call('ZREM', keys.retries, ...) end)
  indexes.sweep()
  open_since.sweep(now)
  for _, entry in ipairs(left_behind) do write_takeover(entry[1], entry[2], entry[3]) end
  -- For `recover`: who lost the reply has to tell of it all the same.
  if #taken > 0 then attempt('HSET', keys.instance, 'took', cmsgpack.pack(taken, call)) end
  error_groups.write()
  if counting then write_counts() end
end

local MAX_LABEL_SETS = 500

-- Records that the caller counts, and returns label sets that it does not know.
local function look_at_label_sets()
  if not options.counts_as then return {} end
  attempt('ZADD', keys.counting, now, options.counts_as)
  attempt('EXPIRE', keys.label_sets, options.failure_ttl)
  for _, label_set in ipairs(options.own_label_sets) do add_label_set(label_set) end
  -- An invalid time is foreign.
  attempt('ZREMRANGEBYSCORE', keys.label_sets, '-inf', 0)
  attempt('ZREMRANGEBYSCORE', keys.label_sets, string.format('(%.0f', now + LATEST), '+inf')
  local after = '(' .. string.format('%.0f', options.label_sets_after)
  local range = { after, '+inf', 'WITHSCORES', 'LIMIT', 0, MAX_LABEL_SETS }
  local found = attempt('ZRANGEBYSCORE', keys.label_sets, unpack(range)) or {}
  table.insert(found, 1, attempt('ZCARD', keys.label_sets) or 0)
  return found
end

local LOOK_AGAIN = 1000 -- ms

-- In how many ms more is due; -1 if nothing is waiting.
local function next_due()
  local least = -1
  for _, key in ipairs({ keys.waiting, keys.retries }) do
    local earliest = tonumber(redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2])
    if earliest then
      local left = math.min(LATEST, math.max(0, earliest - now))
      -- It is due, but has not waited long enough: other instances must merge first.
      if key == keys.waiting and left == 0 and earliest > waited_enough + options.name_wait then left = LOOK_AGAIN end
      least = least < 0 and left or math.min(least, left)
    end
  end
  return least
end

return holding_lease(function(call)
  begin()
  renew()
  local step = deadlines.check()
  local leads = lead()
  take_waiting()
  take_retries()
  local own = #items
  -- After a rollback, leases show old renewals: an instance that is alive renews its lease within one lease.
  if options.may_take_over and not rollback.is_recent(options.lease) then take_over() end
  local first
  first, own = commit(nil, function() write_rest(call) end, own)
  return { first, items, next_due(), taken, own, leads, step, look_at_label_sets() }
end)
