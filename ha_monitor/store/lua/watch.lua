-- The duties of the leader: looks at the fleet and at the workers, and puts what changed into its outbox. Atomic, so
-- each change is announced once, whoever leads.
--
-- KEYS[1] leases        zset    token of a living instance -> end of its lease, ms since the epoch
-- KEYS[2] instance      hash    the caller's entry, as in outbox.lua
-- KEYS[3] outbox        list    entries that the caller has yet to announce
-- KEYS[4] leader        string  the token of the leader
-- KEYS[5] workers       zset    nodename -> when an instance last heard of it, ms since the epoch
-- KEYS[6] liveness      hash    nodename -> its state, as below; behind a lost one, the time in µs of its last event, when
--                               it was last heard of before (ms), and when it was first heard of again (ms), or 0
-- KEYS[7] waiting       zset    tasks with announcements that wait
-- KEYS[8] retries       zset    handlers to be called again
-- KEYS[9] dead letters  list    what failed for good
-- KEYS[10] queues       zset    queue of tasks -> when a worker was last seen to consume it, ms since the epoch
-- KEYS[11] stuck        hash    tasks that were said to be stuck and still are
-- KEYS[12] orphaned     hash    tasks that were said to be orphaned and still are
-- and, by prefix: ARGV[2]w:<nodename> the workers' records.
--
-- ARGV[1] the caller's token
-- ARGV[2] prefix of the keys
-- ARGV[3] sequence number below which the caller has announced everything
-- ARGV[4] MessagePack: {ms of silence until a worker is late, until it is lost, whether the caller has listened for so
--         long that silence means something, worker ttl s}
-- ARGV[5] MessagePack: {queue of tasks, …} as the workers say
--
-- Returns {sequence number of the first item, items, {instances alive, tasks waiting, retries, dead letters, tasks stuck,
-- tasks orphaned}, {{nodename, state, tasks active or -1}, …}, {queue, …}}; nothing if the caller does not lead; or
-- the error LEASELOST.

local ONLINE, LATE, LOST, OFFLINE = 'online', 'late', 'lost', 'offline'
local prefix = ARGV[2]
local late_after, lost_after, may_judge, worker_ttl = unpack(cmsgpack.unpack(ARGV[4]))
local now = now_ms()
local items, shown = {}, {}
local changed = {} -- nodenames and their new states, one after the other

-- An event of the monitor's own about a worker; `since` makes it differ from the next one of its kind.
local function emit(kind, name, since, fields)
  local id = string.sub(redis.sha1hex(kind .. '\0' .. name .. '\0' .. since), 1, 24)
  local event = { type = kind, id = id, worker = name, time = now / 1000, fields = fields }
  items[#items + 1] = event_item(cmsgpack.pack(event), NIL, false)
end

-- Numbers as texts: Lua would round a time in µs when it makes one.
local function exact(number)
  return string.format('%.0f', number)
end

local function lost_text(at, heard_before, heard_again)
  return table.concat({ LOST, at, heard_before, heard_again }, ' ')
end

-- What a worker is, and how that is kept. heard: when an instance last heard of it, ms; before: how it was kept.
local function state_of(name, record, heard, before)
  local silent = math.max(0, now - heard)
  local beat, said = record.b and record.b[1] or -1, record.s and record.s[1] or -1
  local last = math.max(beat, said)
  local lost_at, heard_before, heard_again = string.match(before or '', '^lost (%S+) (%S+) (%S+)$')
  if said >= beat and record.s and record.s[4] == 'worker-offline' then
    return OFFLINE, OFFLINE
  elseif silent > lost_after and (lost_at or may_judge) then
    if not lost_at then
      emit('worker-lost', name, exact(heard), { silent = math.floor(silent) / 1000 })
      return LOST, lost_text(exact(last), exact(heard), 0)
    end
    return LOST, lost_text(lost_at, heard_before, 0)
  elseif lost_at then
    -- By what it sent after it was lost; what an instance held back meanwhile is no sign of life. Or, since its clock may
    -- have been put back, because it goes on sending.
    local since = tonumber(heard_again)
    if since == 0 then since = heard end
    if last <= tonumber(lost_at) and heard - since < late_after then
      local sends = heard > tonumber(heard_before) and silent <= late_after
      return LOST, lost_text(lost_at, heard_before, sends and exact(since) or 0)
    end
    emit('worker-recovered', name, heard_before, { silent = math.max(0, since - tonumber(heard_before)) / 1000 })
  end
  local state = silent > late_after and LATE or ONLINE
  return state, state
end

local known = redis.call('ZRANGE', KEYS[5], 0, -1, 'WITHSCORES')
local present = {}
for index = 1, #known, 2 do
  local name, heard = known[index], tonumber(known[index + 1])
  local raw = redis.call('GET', prefix .. 'w:' .. name)
  local record = raw and cmsgpack.unpack(raw) or {}
  local before = redis.call('HGET', KEYS[6], name)
  local state, kept = state_of(name, record, heard, before)
  if kept ~= before then
    changed[#changed + 1] = name
    changed[#changed + 1] = kept
  end
  local fields = record.b and record.b[3] or {}
  local running = (state == ONLINE or state == LATE) and tonumber(fields.active) or (state == OFFLINE and 0) or -1
  shown[#shown + 1] = { name, state, running }
  present[name] = true
end

local first = commit(KEYS[3], KEYS[2], items, nil, function()
  in_pieces(changed, 2 * PUSH_AT_ONCE, function(...) redis.call('HSET', KEYS[6], ...) end)
end)

if redis.call('HLEN', KEYS[6]) > #shown then
  for _, name in ipairs(redis.call('HKEYS', KEYS[6])) do
    if not present[name] then redis.call('HDEL', KEYS[6], name) end
  end
end

for _, queue in ipairs(cmsgpack.unpack(ARGV[5])) do
  redis.call('ZADD', KEYS[10], now, queue)
end
redis.call('ZREMRANGEBYSCORE', KEYS[10], '-inf', now - worker_ttl * 1000)

return {
  first,
  items,
  {
    redis.call('ZCOUNT', KEYS[1], now, '+inf'),
    redis.call('ZCARD', KEYS[7]),
    redis.call('ZCARD', KEYS[8]),
    redis.call('LLEN', KEYS[9]),
    redis.call('HLEN', KEYS[11]),
    redis.call('HLEN', KEYS[12]),
  },
  shown,
  redis.call('ZRANGE', KEYS[10], 0, -1),
}
