-- The duties of the leader: looks at the fleet and at the workers, and puts what changed into its outbox. Atomic, so
-- each change is announced once, whoever leads.
--
-- It looks at some of the workers at each call, and goes on where it was at the next; so it does with what it tidies
-- up.
--
-- KEYS[1] leases        zset    token of a living instance -> end of its lease, ms since the epoch
-- KEYS[2] instance      hash    the caller's entry, as in outbox.lua
-- KEYS[3] outbox        list    entries that the caller has yet to announce
-- KEYS[4] leader        string  the token of the leader
-- KEYS[5] workers       zset    nodename -> when an instance last heard of it, ms since the epoch
-- KEYS[6] liveness      hash    nodename -> its state, as in liveness.lua; behind a lost one, the time in µs of its last
--                               event, when it was last heard of before (ms), and when it was first heard of again
--                               (ms), or 0
-- KEYS[7] waiting       zset    tasks with announcements that wait
-- KEYS[8] retries       zset    handlers to be called again
-- KEYS[9] dead letters  list    what failed for good
-- KEYS[10] queues       zset    queue of tasks -> when a worker was last seen to consume it, ms since the epoch
-- KEYS[11] stuck        hash    tasks that were said to be stuck and still are
-- KEYS[12] orphaned     hash    tasks that were said to be orphaned and still are
-- KEYS[13] newcomers    zset    nodename of a worker that is not confirmed -> when it was first heard of, ms
-- KEYS[14] named        hash    how many lines of single workers were written lately, as below; expires
-- KEYS[15] sweep        string  as suspects.lua keeps it
-- KEYS[16] turned away  hash    as tables.lua describes it
-- KEYS[17] producers    hash    KEYS[18] usual  hash  KEYS[19] processes  zset  KEYS[20] open  zset: as in apply.lua
-- KEYS[21] crowd        string  MessagePack: {kind of line -> {workers to be told of in one, the first of them}}
-- KEYS[22] young        zset    as in apply.lua
-- and, by prefix: ARGV[2]w:<nodename> the workers' records.
--
-- ARGV[1] the caller's token
-- ARGV[2] prefix of the keys
-- ARGV[3] sequence number below which the caller has announced everything
-- ARGV[4] MessagePack: {ms of silence until a worker is late, until it is lost, whether the caller has listened for so
--         long that silence means something, worker ttl s, most workers to look at, {where to go on, …} as returned by
--         the call before or empty}
-- ARGV[5] MessagePack: {queue of tasks, …} as the workers say
--
-- Returns {sequence number of the first item, items, {instances alive, tasks waiting, retries, dead letters, tasks
-- stuck, tasks orphaned}, {{nodename, state, tasks active or -1}, …}, {queue, …}, {where to go on, …},
-- {{table, entries, most entries, turned away}, …}}: the first place to go on is '0' when all workers were looked at.
-- Nothing if the caller does not lead; or the error LEASELOST.

-- So many workers are named in a minute, those that were never confirmed and the others; the rest in one line when all
-- workers were looked at.
local MOST_NAMED, NAMED_FOR = { newcomer = 20, confirmed = 1000 }, 60
local MOST_IN_A_LINE, CROWD_KEPT_FOR = 20, 600 -- names; s
local MOST_ACTIVE = 1000000 -- tasks that a worker runs: what says more is no number of tasks
local TABLES = { 'workers', 'processes', 'heartbeats', 'starts', 'producers', 'usual', 'queues', 'open' }
local SCANNED, TIDIED = 100, 100
local prefix = ARGV[2]
local late_after, lost_after, may_judge, worker_ttl, most_looks, places = unpack(cmsgpack.unpack(ARGV[4]))
local now = now_ms()
local items, shown = {}, {}
local changed = {} -- nodenames and their new states, one after the other
local tables = { workers = KEYS[5], newcomers = KEYS[13], young = KEYS[22], liveness = KEYS[6] }

-- An event of the monitor's own about workers; `since` makes it differ from the next one of its kind.
local function emit(kind, name, since, fields)
  local id = string.sub(redis.sha1hex(kind .. '\0' .. name .. '\0' .. since), 1, 24)
  local event = { type = kind, id = id, worker = fields.workers and '' or name, time = now / 1000, fields = fields }
  items[#items + 1] = event_item(cmsgpack.pack(event), NIL, false)
end

local named = redis.call('HMGET', KEYS[14], 'newcomer', 'confirmed')
named = { newcomer = tonumber(named[1] or nil) or 0, confirmed = tonumber(named[2] or nil) or 0 }
local SEVERAL = { ['worker-lost'] = 'workers-lost', ['worker-recovered'] = 'workers-recovered' }
local crowds, crowds_changed = {}, false
for kind, crowd in pairs(load_packed(KEYS[21]) or {}) do
  local count, names = unpack(type(crowd) == 'table' and crowd or {})
  if type(count) == 'number' and type(names) == 'table' and type(names[1]) == 'string' and SEVERAL[kind] then crowds[kind] = crowd end
end

-- Says what became of one worker, or adds it to a line for many.
local function tell(kind, name, newcomer, since, silent)
  local who = newcomer and 'newcomer' or 'confirmed'
  if named[who] < MOST_NAMED[who] then
    named[who] = named[who] + 1
    emit(kind, name, since, { silent = math.max(0, silent) / 1000 })
    return
  end
  local crowd = crowds[kind] or { 0, {} }
  crowds[kind], crowds_changed = crowd, true
  crowd[1] = crowd[1] + 1
  if crowd[1] <= MOST_IN_A_LINE then crowd[2][crowd[1]] = name end
end

local function tell_of_crowds()
  for kind, crowd in pairs(crowds) do
    emit(SEVERAL[kind], crowd[2][1], exact(now), { count = crowd[1], workers = crowd[2] })
  end
  crowds, crowds_changed = {}, next(crowds) ~= nil
end

local any_lost, newly_lost = false, false

local function look_at(name, heard)
  local record = read_worker(attempt('GET', prefix .. 'w:' .. name))
  local before = redis.call('HGET', KEYS[6], name)
  local judges = may_judge or read_lost(before)
  local state, kept, change = state_of(record, heard, before, now, late_after, judges and lost_after)
  if change then tell(change[1], name, record.f, change[2], change[3]) end
  if kept ~= before then
    changed[#changed + 1] = name
    changed[#changed + 1] = kept
  end
  if state == LOST then
    any_lost = true
    newly_lost = newly_lost or not read_lost(before)
  end
  local running = -1
  if state == OFFLINE then
    running = 0
  elseif state ~= LOST and record.b then
    running = number_within(record.b[3].active, MOST_ACTIVE) or -1
  end
  shown[#shown + 1] = { name, state, running }
end

-- Goes on with a scan from a place; returns the entries and the next place.
local function scan(command, key, place, count)
  local following, found = unpack(redis.call(command, key, place or '0', 'COUNT', count))
  return found, following
end

-- Forgets what is too old, some at a call.
local function tidy_workers()
  local ttl = worker_ttl * 1000
  for _, old in ipairs({ { KEYS[5], ttl }, { KEYS[22], ttl }, { KEYS[13], KEPT_FOR.newcomer } }) do
    for _, name in ipairs(redis.call('ZRANGEBYSCORE', old[1], '-inf', now - old[2], 'LIMIT', 0, TIDIED)) do
      forget_worker(tables, prefix, name)
    end
  end
  if redis.call('HLEN', KEYS[6]) <= redis.call('ZCARD', KEYS[5]) then return '0' end
  local states, following = scan('HSCAN', KEYS[6], places[2], TIDIED)
  for index = 1, #states, 2 do
    if not redis.call('ZSCORE', KEYS[5], states[index]) then redis.call('HDEL', KEYS[6], states[index]) end
  end
  return following
end

local function tidy_producers()
  local producers, following = scan('HSCAN', KEYS[17], places[3], TIDIED)
  for index = 1, #producers, 2 do
    if now - (tonumber(producers[index + 1]) or 0) * 1000 > KEPT_FOR.producer then
      redis.call('HDEL', KEYS[17], producers[index])
    end
  end
  return following
end

-- Where too many names have usual run times, each loses half of its runs, and those that are left with too few go.
local function tidy_usual()
  if redis.call('HLEN', KEYS[18]) < MOST.usual then return '0' end
  local names, following = scan('HSCAN', KEYS[18], places[4], TIDIED)
  for index = 1, #names, 2 do
    local runs, mean = read_usual(names[index + 1])
    runs = math.floor(runs / 2)
    if runs < RUNS_NEEDED / 2 then
      redis.call('HDEL', KEYS[18], names[index])
    else
      redis.call('HSET', KEYS[18], names[index], string.format('%d %.6f', runs, mean))
    end
  end
  return following
end

local function look_at_workers()
  local place = places[1] or '0'
  repeat
    local found
    found, place = scan('ZSCAN', KEYS[5], place, SCANNED)
    for index = 1, #found, 2 do
      look_at(found[index], tonumber(found[index + 1]))
    end
  until place == '0' or #shown >= most_looks
  if place == '0' then tell_of_crowds() end
  return place
end

local function write_states()
  in_pieces(changed, 2 * PUSH_AT_ONCE, function(...) redis.call('HSET', KEYS[6], ...) end)
  if #items > 0 then
    redis.call('HSET', KEYS[14], 'newcomer', named.newcomer, 'confirmed', named.confirmed)
    if redis.call('TTL', KEYS[14]) == -1 then redis.call('EXPIRE', KEYS[14], NAMED_FOR) end
  end
  if next(crowds) then
    if crowds_changed then redis.call('SET', KEYS[21], cmsgpack.pack(crowds), 'EX', CROWD_KEPT_FOR) end
  elseif crowds_changed then
    redis.call('DEL', KEYS[21])
  end
  want_sweep(KEYS[15], any_lost, newly_lost)
end

local function note_queues()
  for _, queue in ipairs(cmsgpack.unpack(ARGV[5])) do
    if redis.call('ZADD', KEYS[10], now, queue) == 1 and redis.call('ZCARD', KEYS[10]) > MOST.queues then
      redis.call('ZREM', KEYS[10], queue)
      turn_away('queues')
    end
  end
  redis.call('ZREMRANGEBYSCORE', KEYS[10], '-inf', now - worker_ttl * 1000)
end

local function sizes()
  write_turned_away(KEYS[16])
  local keys = {
    workers = KEYS[5], processes = KEYS[19], producers = KEYS[17], usual = KEYS[18], queues = KEYS[10], open = KEYS[20],
  }
  local found = {}
  for _, name in ipairs(TABLES) do
    local key = keys[name]
    local size = key and redis.call((name == 'producers' or name == 'usual') and 'HLEN' or 'ZCARD', key) or -1
    found[#found + 1] = { name, size, MOST[name], tonumber(redis.call('HGET', KEYS[16], name) or nil) or 0 }
  end
  return found
end

local following = { look_at_workers() }
local first = commit(KEYS[3], KEYS[2], items, nil, write_states)
following[2], following[3], following[4] = tidy_workers(), tidy_producers(), tidy_usual()
note_queues()

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
  following,
  sizes(),
}
