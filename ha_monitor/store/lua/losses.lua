-- Finds out how many events were lost, from what the workers say of themselves. A duty of the leader.
--
-- A worker's heartbeat says how many runs its process has begun (`processed`); for each it has sent a task-started.
-- So d(t) = processed at t, less the task-started from before t, does not change while nothing is lost, and grows by
-- what is lost. A run is counted by the worker a moment before its event gets its time, so at each heartbeat
--   low(t)  = processed at t, less the task-started from before t + SLACK, is at most the truth, and
--   high(t) = processed at t, less the task-started from before t,         is at least the truth.
-- What is reported is the growth of the larger of: the least low of two heartbeats, the least high of WINDOW ones. The
-- first is soon there, and exact when the worker pauses; the second is exact under steady load, too.
--
-- A heartbeat is looked at when the next one has come and all instances have merged whatever they were given until
-- then; not while messages of an instance that vanished may still come.
--
-- A heartbeat that comes after another one, has more runs and yet an earlier time, is from a clock that was put back. What
-- was before and what is after that cannot be put in order, so the account of the process begins anew.
--
-- KEYS[1] leases     zset    token of a living instance -> end of its lease, ms since the epoch
-- KEYS[2] instance   hash    the caller's entry, as in outbox.lua
-- KEYS[3] outbox     list    entries that the caller has yet to announce
-- KEYS[4] leader     string  the token of the leader
-- KEYS[5] processes  zset    <nodename>SEPARATOR<pid> -> when an instance last heard of it, ms since the epoch
-- KEYS[6] takeovers  list    the latest takeovers as JSON, newest first
-- KEYS[7] returned   string  when messages were last handed back to the broker, ms since the epoch
-- KEYS[8] counts     hash    the caller's, as counting.lua describes them
-- and, by prefix, for each process: ARGV[2]b:… its heartbeats, ARGV[2]p:… the times of its task-started, as apply.lua
-- appends them, ARGV[2]l:… what is known; ARGV[2]instance:<token> of all instances.
--
-- ARGV[1] the caller's token
-- ARGV[2] prefix of the keys
-- ARGV[3] sequence number below which the caller has announced everything
-- ARGV[4] MessagePack: {ms for which the broker may keep messages of an instance that vanished, worker ttl s,
--         counting as in counting.lua or false, ttl of the counts s, whether to report and count what is found}
--
-- Returns {sequence number of the first item, items}; nothing if the caller does not lead; or the error LEASELOST.

local SLACK, WINDOW = 250000, 15 -- µs; heartbeats
local STEADY = 5000000 -- µs: at most so far apart are two heartbeats of which none between is missing
local UNSENT_AFTER = 3 -- heartbeats in a row with runs and without events: the worker does not send them
local GRACE, LAST_GRACE = MERGE_GRACE, 5000 -- ms: for what is on its way; where no next heartbeat will come
local START_SIZE, BEAT_SIZE = 8, 32
local MOST_WITHOUT_BEATS = 50000
local prefix = ARGV[2]
local held, ttl, to_count, counts_ttl, to_report = unpack(cmsgpack.unpack(ARGV[4]))
counting = to_count or nil
local now = now_ms()
local items, writes = {}, {}

-- A write of what is known of a process, for after the outbox.
local function later(...)
  writes[#writes + 1] = { ... }
end

local function read_starts(raw)
  local times = {}
  for offset = 1, #raw, START_SIZE do
    times[#times + 1] = struct.unpack('>d', raw, offset)
  end
  table.sort(times)
  return times
end

-- The heartbeats as they came: {time in µs, processed, came at ms, whether it is the last}.
local function read_beats(raw)
  local beats = {}
  for offset = 1, #raw, BEAT_SIZE do
    local at, processed, came, last = struct.unpack('>dddd', raw, offset)
    beats[#beats + 1] = { at, processed, came, last == 1 }
  end
  return beats
end

-- Whether the clock was put back since the state, or between two of the heartbeats as they came.
local function was_put_back(state, beats)
  local at, processed = state.at, state.done
  for _, beat in ipairs(beats) do
    if at == nil or beat[1] > at then
      at, processed = beat[1], beat[2]
    elseif beat[1] < at and beat[2] > processed then
      return true
    end
  end
  return false
end

-- The heartbeats in the order of their times, each once.
local function in_order(beats)
  local sorted, each = {}, {}
  for number, beat in ipairs(beats) do sorted[number] = beat end
  table.sort(sorted, function(a, b) return a[1] < b[1] end)
  for _, beat in ipairs(sorted) do
    local before = each[#each]
    if before and before[1] == beat[1] and before[2] == beat[2] then
      before[3], before[4] = math.min(before[3], beat[3]), before[4] or beat[4]
    else
      each[#each + 1] = beat
    end
  end
  return each
end

local function least_of(values)
  local least = values[1]
  for _, value in ipairs(values) do
    least = math.min(least, value)
  end
  return least
end

-- The state of a process: at, done = time and `processed` of the last heartbeat looked at; base = task-started counted
-- and forgotten; level = d as far as it is accounted for, nil until it is known; low = the last low; highs = the last
-- WINDOW highs; silent, unsent = heartbeats in a row with runs and without events, and those runs; sends = whether an
-- event proves that the worker sends them.
local function look_at(state, beat, count, count_with_slack)
  local at, processed = beat[1], beat[2]
  local high, low = processed - count, processed - count_with_slack
  if processed == 0 or (state.done and processed < state.done) then
    -- A process that has just begun, perhaps with the id of the one before it.
    state.level, state.highs, state.low = processed == 0 and high or nil, {}, nil
    state.silent, state.unsent, state.sends = 0, 0, false
  elseif state.done then
    local fresh, growth = count - state.count, processed - state.done
    if growth > 0 and fresh == 0 then
      state.sends = false
      if at - state.at <= STEADY then
        state.silent, state.unsent = state.silent + 1, state.unsent + growth
      end
    elseif fresh > 0 then
      if state.silent >= UNSENT_AFTER and state.level then
        state.level = state.level + state.unsent
      end
      state.silent, state.unsent, state.sends = 0, 0, true
    end
  end
  state.highs[#state.highs + 1] = high
  if #state.highs > WINDOW then table.remove(state.highs, 1) end
  local before = state.low
  state.at, state.done, state.count, state.low = at, processed, count, low
  local full = #state.highs >= WINDOW
  local least = least_of(state.highs)
  if state.level == nil then
    if full then state.level = least end
    return 0
  end
  -- What came late after all was not lost.
  state.level = math.min(state.level, high)
  if not state.sends then
    return 0
  end
  local sure = (beat[4] or before == nil) and low or math.min(low, before)
  if full then sure = math.max(sure, least) end
  local lost = math.max(0, sure - state.level)
  state.level = state.level + lost
  return lost
end

local function report(process, name, lost, at)
  local id = string.sub(redis.sha1hex('events-lost\0' .. process .. '\0' .. string.format('%.0f', at)), 1, 24)
  local event = { type = 'events-lost', id = id, worker = name, time = now / 1000, fields = { lost = lost } }
  items[#items + 1] = event_item(cmsgpack.pack(event), NIL, false)
end

local function is_settled(beat, following, merged)
  if following then
    return merged >= math.max(beat[3], following[3]) + GRACE
  end
  return beat[4] and merged >= beat[3] + LAST_GRACE
end

local function account(process, merged)
  local key = { prefix .. 'b:' .. process, prefix .. 'p:' .. process, prefix .. 'l:' .. process }
  local name = string.match(process, '^(.*)' .. SEPARATOR)
  local raw_beats = redis.call('GET', key[1])
  if not raw_beats then
    if redis.call('STRLEN', key[2]) > START_SIZE * MOST_WITHOUT_BEATS then later('DEL', key[2], key[3]) end
    return
  end
  local came = read_beats(raw_beats)
  local beats = in_order(came)
  if not is_settled(beats[1], beats[2], merged) then return end
  local raw = redis.call('GET', key[3])
  local state = raw and cmsgpack.unpack(raw) or { base = 0, highs = {}, silent = 0, unsent = 0, sends = false }
  if was_put_back(state, came) then
    later('DEL', unpack(key))
    return
  end
  local starts = read_starts(redis.call('GET', key[2]) or '')
  local lost, index, ahead, kept = 0, 0, 0, {}
  for number, beat in ipairs(beats) do
    if not is_settled(beat, beats[number + 1], merged) then
      kept[#kept + 1] = struct.pack('>dddd', beat[1], beat[2], beat[3], beat[4] and 1 or 0)
    elseif state.at == nil or beat[1] > state.at then
      while index < #starts and starts[index + 1] <= beat[1] do index = index + 1 end
      ahead = math.max(ahead, index)
      while ahead < #starts and starts[ahead + 1] <= beat[1] + SLACK do ahead = ahead + 1 end
      lost = lost + look_at(state, beat, state.base + index, state.base + ahead)
    end
  end
  if lost > 0 and to_report then
    report(process, name, lost, state.at)
    if counting then count_lost(name, lost) end
  end
  state.base = state.base + index
  local rest = {}
  for number = index + 1, #starts do
    rest[#rest + 1] = struct.pack('>d', starts[number])
  end
  for number, value in ipairs({ table.concat(kept), table.concat(rest), cmsgpack.pack(state) }) do
    if value == '' then
      later('DEL', key[number])
    else
      later('SET', key[number], value, 'EX', ttl)
    end
  end
end

local merged = merged_by_all(KEYS[1], KEYS[6], KEYS[7], prefix, held, now)
if merged then
  for _, process in ipairs(redis.call('ZRANGE', KEYS[5], 0, -1)) do
    account(process, merged)
  end
end
later('ZREMRANGEBYSCORE', KEYS[5], '-inf', now - ttl * 1000)

local first = commit(KEYS[3], KEYS[2], items, nil, function()
  for _, write in ipairs(writes) do redis.call(unpack(write)) end
  if counting then write_counts(KEYS[8], counts_ttl) end
end)
return { first, items }
