-- What time brings: renews the caller's lease, and puts into its outbox what has become due (announcements whose
-- wait is over, handler retries) and what a dead instance left behind, so much at a time. Atomic, so each is taken by
-- one instance.
--
-- @include clock counting deadlines lease outbox pieces record runs stored takeovers trouble work
-- @keys leases instance waiting retries takeovers rejected leader requeued
-- @families task instance outbox
-- @options token lease held
-- @option stats  the caller's counters as JSON
-- @option rejected  samples of messages that could not be handled, as JSON
-- @option may_take_over  whether the caller may take over what others left behind
-- @option most  items at most
-- @option eligible  whether the caller is eligible to lead
-- @option watermark_age  age of the caller's watermark in ms; nil if that is not known
-- @option requeued  whether messages of it were requeued since its last tick
--
-- Returns {sequence number of the first item, items, ms until more is due or -1, {JSON of each one taken over},
-- how many items precede those taken over, 1 if the caller leads or 2 if it has just followed another leader or 0, ms
-- by which Redis's clock was put back since the tick before or 0} or the error LEASELOST.

local KEPT = 100
local MOST_BYTES = 2 ^ 20 -- of items, before the last record
local MOST_OUTBOXES, A_PIECE = 100, 10 -- that are taken over; entries of one that are read at once
local taken = {}

-- Renews the caller's lease, and publishes what it says of itself.
local function renew()
  redis.call('ZADD', keys.leases, now + options.lease, options.token)
  redis.call('HSET', keys.instance, 'stats', options.stats, 'seen', now, 'lease', options.lease)
  if options.watermark_age then
    redis.call('HSET', keys.instance, 'merged', now - options.watermark_age)
  end
  if options.requeued then
    redis.call('SET', keys.requeued, now, 'EX', 3600)
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
    -- Not deleted: whoever is next must know that it follows another.
    redis.call('SET', keys.leader, 'none')
    return 0
  elseif not options.eligible or (leader and tonumber(redis.call('ZSCORE', keys.leases, leader) or 0) > now) then
    return 0
  end
  redis.call('SET', keys.leader, options.token)
  return leader and 2 or 1
end

-- An instance that froze or lost its network still holds messages, until the broker notices. The name of a task may
-- be among them, so announcements without one wait for that long, but not for ever.
local LONGEST_WAIT = 120000

-- Until when it may be held, as far as that is known; nil if it is not.
local function held_until(since)
  if now - since > LONGEST_WAIT then
    return nil
  end
  local first = redis.call('ZRANGE', keys.leases, 0, 0, 'WITHSCORES')
  -- Leases are renewed five times in their length: one this short is of an instance that has fallen silent.
  if first[2] and tonumber(first[2]) - now < 0.7 * options.lease then
    return now + 1000
  end
  local latest = latest_takeover()
  if not latest or now - latest >= options.held then return nil end
  return math.max(now + 1000, math.min(latest + options.held, since + LONGEST_WAIT + 1))
end

local bytes = 0

-- Whether one more entry fits into this call. What was read does not count: else waiting announcements, of which none
-- is taken yet, could keep what was left behind from being taken over.
local function has_room()
  return #items < options.most and bytes < MOST_BYTES and to_write < A_CALL.to_write
end

local function take(entry)
  put(entry)
  bytes = bytes + #entry
end

local put_off, waited = {}, {}

-- Takes the announcements whose wait is over.
local function take_waiting()
  local looked = 0
  for _, uuid in ipairs(redis.call('ZRANGEBYSCORE', keys.waiting, '-inf', now, 'LIMIT', 0, options.most)) do
    if not has_room() or (looked > 0 and is_enough(1)) then break end
    looked = looked + 1
    local key = families.task .. uuid
    local facts, seen, waiting, uncounted = load_record(key)
    local since = waiting and waiting[1] and waiting[1][4] or uncounted and uncounted[1][5]
    local held = since and facts.n == nil and held_until(since)
    if held then
      put_off[#put_off + 1] = string.format('%.0f', held)
      put_off[#put_off + 1] = uuid
    else
      waited[#waited + 1] = uuid
    end
    if since and not held then
      local facts_text = pack_facts(facts)
      for _, entry in ipairs(waiting or {}) do
        local text = runs.text(facts, facts_text, entry[2], entry[3], entry[5] or '')
        put_event(entry[1], text, facts.n == nil)
        bytes = bytes + #items[#items]
      end
      if counting then
        for _, entry in ipairs(uncounted or {}) do
          count_waiting(facts, entry)
        end
      end
      save_record(key, facts_text, seen, nil, nil, math.max(redis.call('TTL', key), 1))
    end
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

-- Takes what instances left behind whose leases ran out.
local function take_over()
  for _, token in ipairs(redis.call('ZRANGEBYSCORE', keys.leases, '-inf', now, 'LIMIT', 0, MOST_OUTBOXES)) do
    if not has_room() then break end
    local outbox = families.outbox .. token
    local left = unless_foreign('LLEN', outbox)
    -- What is no outbox stays until somebody has looked at it; it is said at each tick.
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

-- What is taken away from another one is in the caller's outbox by now: should it fail between two of these, it is
-- taken over once more, and announced again, as `recovered`.
local function write_takeover(token, count, whole)
  local outbox, instance = families.outbox .. token, families.instance .. token
  local who = unless_foreign('HMGET', instance, 'who', 'seen', 'taken') or {}
  local entries = (stored_number(instance, who[3]) or 0) + count
  if not whole then
    redis.call('LTRIM', outbox, count, -1)
    unless_foreign('HSET', instance, 'taken', entries)
    return
  end
  local seen = stored_number(instance, who[2]) or 0
  local report = cjson.encode({ who = who[1] or '{}', seen = seen, at = now, entries = entries })
  taken[#taken + 1] = report
  attempt('LPUSH', keys.takeovers, report)
  attempt('LTRIM', keys.takeovers, 0, KEPT - 1)
  redis.call('DEL', outbox, instance)
  redis.call('ZREM', keys.leases, token)
end

local function write_rest()
  in_pieces(put_off, 2 * PUSH_AT_ONCE, function(...) redis.call('ZADD', keys.waiting, ...) end)
  in_pieces(waited, PUSH_AT_ONCE, function(...) redis.call('ZREM', keys.waiting, ...) end)
  in_pieces(retried, PUSH_AT_ONCE, function(...) redis.call('ZREM', keys.retries, ...) end)
  for _, entry in ipairs(left_behind) do write_takeover(entry[1], entry[2], entry[3]) end
  if counting then write_counts() end
end

-- In how many ms more is due; -1 if nothing is.
local function next_due()
  local least = -1
  for _, key in ipairs({ keys.waiting, keys.retries }) do
    local earliest = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if earliest[2] then
      local left = math.min(LATEST, math.max(0, tonumber(earliest[2]) - now))
      least = least < 0 and left or math.min(least, left)
    end
  end
  return least
end

return holding_lease(function()
  begin()
  renew()
  local step = deadlines.check()
  local leads = lead()
  take_waiting()
  take_retries()
  local own = #items
  if options.may_take_over then take_over() end
  local first
  first, own = commit(nil, write_rest, own)
  return { first, items, next_due(), taken, own, leads, step }
end)
