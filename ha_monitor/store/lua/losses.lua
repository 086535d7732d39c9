-- Computes how many events were lost, from what the workers report about themselves. A duty of the leader.
--
-- A worker's heartbeat says how many runs its process has started (`processed`); for each it has sent a task-started.
-- So d(t) = processed at t, less the task-started from before t, is constant while nothing is lost, and grows by what
-- is lost. The worker counts a run a moment before its event gets its time, so at each heartbeat
--   low(t)  = processed at t, less the task-started from before t + SLACK, is at most the truth, and
--   high(t) = processed at t, less the task-started from before t,         is at least the truth.
-- What is reported is the growth of the larger of: the least low of two heartbeats, the least high of WINDOW ones. The
-- first is available soon, and exact when the worker pauses; the second is exact under steady load, too.
--
-- A heartbeat is evaluated when the next one has come and all instances have merged whatever they had received until
-- then; not while messages of an instance that vanished may still be redelivered.
--
-- A heartbeat that comes after another one, has more runs and yet an earlier time, is from a clock that was put back;
-- if a heartbeat's arrival lies in the future, Redis's clock was put back. What came before cannot be ordered with what
-- comes after, so the account of the process begins anew.
--
-- If the runs of two heartbeats differ by more than any worker could start, one of them is false, and the account
-- begins anew, too.
--
-- Task events may be switched off and on at run time, between two heartbeats. So what is missing counts as lost only
-- when a later run has its event; and if the runs of UNSENT_AFTER heartbeats have none, the account begins anew with
-- the next event. A process that runs tasks and sends no events of them is reported once. If a process did send them,
-- no later event is needed when heartbeats are missing as well, as after a purge; when it has been idle for WINDOW
-- heartbeats since; or when it has ended.
--
-- After the store has gone back, some starts may be missing, so the account begins anew, too.
--
-- Each call looks at some processes, and the next one continues there.
--
-- @include clock counting duty merged outbox processes rollback tables trouble work
-- @keys processes gaps
-- @options worker_ttl failure_ttl
-- @option report  whether to report and count what is found
-- @option place  {where to continue, {process, …}} as returned by the previous call, or empty
--
-- Returns {sequence number of the first item, items, {where to continue, {process, …}}}: the place is '0' and there is
-- no process when all were looked at. Returns false if the caller does not lead; or the error LEASELOST.

local SLACK, WINDOW = 250000, 15 -- µs; heartbeats
local STEADY = 5000000 -- µs: no heartbeat is missing between two that are at most so far apart,
local STEADY_SPANS = 2.5 -- or at most so many times as far apart as the two before
local UNSENT_AFTER = 3 -- heartbeats in a row with runs and without events: the worker does not send them
local GRACE, LAST_GRACE = MERGE_GRACE, 5000 -- ms for events in flight; the same if no next heartbeat will come
local MAX_RUNS, MAX_RUNS_A_SECOND = 1e12, 20000 -- a larger number is not a number of runs
local LATEST_TIME = 1e17 -- µs
local AT_ONCE = 50 -- numbers packed or unpacked by one call
local MAX_PROCESSES, MAX_WORK = 50, 10000 -- for each call; work: heartbeats and starts
local STEPS = 8 -- of a call's work, for each process
local LARGEST_ACCOUNT = 4096 -- bytes; ten times the usual size
local MAX_IN_A_LINE = 20 -- names
local MAX_GAPS = 1000
local ADVICE = 'they ran tasks but sent no task events: start them with -E, set worker_send_task_events, or set '
  .. 'broker.enable_events'
local writes = {}
local silent_workers, silent_at = {}, nil -- nodenames to be reported; what the line's id is made of

-- Holds a write about a process until the outbox is written.
local function later(...)
  writes[#writes + 1] = { ... }
end

local DOUBLES = '>' .. string.rep('d', AT_ONCE)

-- The times of task-started, in the order in which they came.
local function read_starts(raw)
  local times, offset, size = {}, 1, START_SIZE * AT_ONCE
  while offset + size <= #raw + 1 do
    local some = { struct.unpack(DOUBLES, raw, offset) }
    for index = 1, AT_ONCE do times[#times + 1] = some[index] end
    offset = offset + size
  end
  for last = offset, #raw - START_SIZE + 1, START_SIZE do
    times[#times + 1] = struct.unpack('>d', raw, last)
  end
  return times
end

local function pack_starts(times)
  local pieces = {}
  for first = 1, #times, AT_ONCE do
    local count = math.min(AT_ONCE, #times - first + 1)
    pieces[#pieces + 1] = struct.pack('>' .. string.rep('d', count), unpack(times, first, first + count - 1))
  end
  return table.concat(pieces)
end

-- The heartbeats in the order in which they came: {time in µs, processed, arrival in ms, whether it is the last}.
-- Invalid ones are left out.
local function read_beats(raw)
  local beats = {}
  for offset = 1, #raw - BEAT_SIZE + 1, BEAT_SIZE do
    local at, processed, came, last = struct.unpack('>dddd', raw, offset)
    local is_count = processed >= 0 and processed <= MAX_RUNS and processed == math.floor(processed)
    if at > 0 and at < LATEST_TIME and is_count and came >= 0 and came < LATEST_TIME then
      beats[#beats + 1] = { at, processed, came, last == 1 }
    end
  end
  return beats
end

-- The state of a process, or nil if it cannot be read.
local function read_state(raw)
  local readable, state = pcall(cmsgpack.unpack, raw)
  if not readable or type(state) ~= 'table' or type(state.highs) ~= 'table' or #state.highs > WINDOW then return nil end
  local numbers = {
    state.base or false, state.silent or false, state.unsent or false, state.bound or 0, state.from or 0,
    state.idle or 0, state.span or 0,
  }
  for _, high in ipairs(state.highs) do numbers[#numbers + 1] = high end
  for _, key in ipairs({ 'at', 'done', 'count', 'level', 'low' }) do
    if state[key] ~= nil then numbers[#numbers + 1] = state[key] end
  end
  for _, number in ipairs(numbers) do
    if type(number) ~= 'number' or not (math.abs(number) < LATEST_TIME) then return nil end
  end
  if state.at ~= nil and (state.done == nil or state.done > MAX_RUNS or state.count == nil) then return nil end
  return state
end

-- Whether the clock was put back since the state, or between two of the heartbeats in the order of their arrival; or
-- whether more runs were started between them than any worker can start.
local function is_broken_off(state, beats)
  local at, processed = state.at, state.done
  for _, beat in ipairs(beats) do
    if at == nil or beat[1] > at then
      if at ~= nil and beat[2] - processed > ((beat[1] - at) / 1000000 + 1) * MAX_RUNS_A_SECOND then return true end
      at, processed = beat[1], beat[2]
    elseif beat[1] < at and beat[2] > processed then
      return true
    end
  end
  return false
end

-- When the first and the last of the heartbeats arrived, in ms.
local function arrivals(beats)
  local first, last = math.huge, 0
  for _, beat in ipairs(beats) do first, last = math.min(first, beat[3]), math.max(last, beat[3]) end
  return first, last
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

-- Evaluates a heartbeat; returns how many events turn out to be lost. The state of a process: at, done = time and
-- `processed` of the last evaluated heartbeat; base = number of task-started counted and deleted; level = d as far as
-- it is accounted for, nil until it is known; low = the last low; highs = the last WINDOW highs; silent, unsent =
-- heartbeats in a row with runs and without events, and the number of those runs; sends = whether an event proves that
-- the worker sends them, proven = whether one ever did; told = whether a line reported that none comes; from = when the
-- account began in ms; bound = the high of the heartbeat before the latest one with events, an upper bound of what is
-- missing before a later event; idle = heartbeats in a row without runs; span = µs between the last two heartbeats.
local function look_at(state, beat, count, count_with_slack)
  local at, processed = beat[1], beat[2]
  local high, low = processed - count, processed - count_with_slack
  local fresh = state.done and count - state.count or 0
  local span = state.at and at - state.at
  local is_gap = span and span > STEADY and span > STEADY_SPANS * (state.span or 0)
  state.span = span or nil
  if processed == 0 or (state.done and processed < state.done) then
    -- A process that has just started, perhaps with the same process id as the one before.
    state.level, state.highs, state.low = processed == 0 and high or nil, {}, nil
    state.silent, state.unsent, state.sends = 0, 0, false
    state.bound, state.proven, state.told, fresh = nil, false, false, 0
    state.idle, state.span = 0, nil
  elseif state.done then
    local growth = processed - state.done
    state.idle = growth == 0 and (state.idle or 0) + 1 or 0
    if growth > 0 and fresh == 0 then
      if not is_gap then
        state.sends = false
        state.silent, state.unsent = state.silent + 1, state.unsent + growth
      end
    elseif fresh > 0 then
      if state.silent >= UNSENT_AFTER then
        state.level, state.highs, state.low, state.bound = nil, {}, nil, nil
      end
      state.silent, state.unsent, state.sends, state.proven = 0, 0, true, true
    end
  end
  -- If heartbeats are missing as well, the events were lost and not switched off.
  if is_gap and state.sends then
    state.bound = high
  elseif fresh > 0 then
    state.bound = state.highs[#state.highs]
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
  -- An event that came late was not lost after all.
  state.level = math.min(state.level, high)
  local is_settled = beat[4] or (state.idle or 0) >= WINDOW
  if not state.sends and not (is_settled and state.proven and state.silent < UNSENT_AFTER) then
    return 0
  end
  local sure = (beat[4] or before == nil) and low or math.min(low, before)
  if full then sure = math.max(sure, least) end
  if not is_settled then sure = math.min(sure, state.bound or state.level) end
  local lost = math.max(0, sure - state.level)
  state.level = state.level + lost
  return lost
end

-- Remembers a process that sends no task events, so that one line reports it together with others.
local function note_silence(process, name, state)
  local is_silent = not state.sends and state.unsent > 0 and (state.silent >= UNSENT_AFTER or not state.proven)
  if not is_silent or state.told or not options.report then return end
  state.told = true
  silent_workers[#silent_workers + 1] = name
  silent_at = silent_at or process .. '\0' .. string.format('%.0f', state.at)
end

local function tell_of_silence()
  if #silent_workers == 0 then return end
  local id = string.sub(redis.sha1hex('task-events-missing\0' .. silent_at), 1, 24)
  local names = { unpack(silent_workers, 1, MAX_IN_A_LINE) }
  local fields = { count = #silent_workers, workers = names, reason = ADVICE }
  local event = { type = 'task-events-missing', id = id, worker = '', time = now / 1000, fields = fields }
  put_event(cmsgpack.pack(event), NIL, false)
end

-- Records for searches in which period some events are missing (in µs, by the worker's clock).
local function keep_gap(name, lost, since, at)
  local what = string.format(lost == 1 and '%.0f start of %s' or '%.0f starts of %s', lost, name)
  local gap = { what = what, since = math.floor(since / 1000), ['until'] = math.ceil(at / 1000) }
  gap.worker, gap.lost, gap.told = name, lost, now
  later('LPUSH', keys.gaps, cjson.encode(gap))
  later('LTRIM', keys.gaps, 0, MAX_GAPS - 1)
  later('EXPIRE', keys.gaps, options.failure_ttl)
end

local function report(process, name, lost, at)
  local id = string.sub(redis.sha1hex('events-lost\0' .. process .. '\0' .. string.format('%.0f', at)), 1, 24)
  local event = { type = 'events-lost', id = id, worker = name, time = now / 1000, fields = { lost = lost } }
  put_event(cmsgpack.pack(event), NIL, false)
end

local function is_evaluable(beat, following, merged)
  if following then
    return merged >= math.max(beat[3], following[3]) + GRACE
  end
  return beat[4] and merged >= beat[3] + LAST_GRACE
end

-- How many of the sorted times are before a time.
local function place_of(time, sorted)
  local low, high = 0, #sorted
  while low < high do
    local middle = math.floor((low + high) / 2)
    if sorted[middle + 1] < time then low = middle + 1 else high = middle end
  end
  return low
end

-- How many starts were at or before each of the times: time -> count. The starts come nearly in order, so a start's
-- place is mostly that of the one before.
local function count_until(starts, times)
  table.sort(times)
  local counts, size, place = {}, #times, 0
  for index = 0, size do counts[index] = 0 end
  for index = 1, #starts do
    local start = starts[index]
    if (place > 0 and times[place] >= start) or (place < size and times[place + 1] < start) then
      place = place_of(start, times)
    end
    counts[place] = counts[place] + 1
  end
  local until_time, total = {}, 0
  for index = 1, size do
    total = total + counts[index - 1]
    until_time[times[index]] = total
  end
  return until_time
end

local function begin_anew(key)
  later('DEL', unpack(key))
end

-- The same after the store has gone back; what was reported about the process is not reported again.
local function begin_after_rollback(key, state)
  later('DEL', key[1], key[2])
  local kept = { base = 0, highs = {}, silent = 0, unsent = 0, sends = false, from = now, told = state.told }
  later('SET', key[3], cmsgpack.pack(kept), 'EX', options.worker_ttl)
end

local function keep(key, value)
  if value == '' then
    later('DEL', key)
  else
    later('SET', key, value, 'EX', options.worker_ttl)
  end
end

-- The heartbeats that can be evaluated, and those that must wait, packed.
local function evaluable_beats(beats, state, merged)
  local evaluable, kept = {}, {}
  for number, beat in ipairs(beats) do
    if not is_evaluable(beat, beats[number + 1], merged) then
      kept[#kept + 1] = struct.pack('>dddd', beat[1], beat[2], beat[3], beat[4] and 1 or 0)
    elseif state.at == nil or beat[1] > state.at then
      evaluable[#evaluable + 1] = beat
    end
  end
  return evaluable, table.concat(kept)
end

local function account(process, key, raw_beats, merged)
  local name = string.match(process, '^(.*)' .. SEPARATOR) or process
  local came = read_beats(raw_beats)
  local beats = in_order(came)
  local first_arrival, last_arrival = arrivals(beats)
  if #beats == 0 or last_arrival > now then -- Redis's clock was put back since
    begin_anew(key)
    return
  end
  if not is_evaluable(beats[1], beats[2], merged) then return end
  local raw = redis.call('GET', key[3])
  local state = { base = 0, highs = {}, silent = 0, unsent = 0, sends = false, from = now }
  if raw then state = read_state(raw) end
  if state == nil or is_broken_off(state, came) then
    begin_anew(key)
    return
  end
  if rollback.hides(math.min(state.from or 0, first_arrival)) then
    begin_after_rollback(key, state)
    return
  end
  local evaluable, kept = evaluable_beats(beats, state, merged)
  local starts_raw = redis.call('GET', key[2]) or ''
  has_loaded(#raw_beats + #starts_raw)
  local starts = read_starts(starts_raw)
  local lost, taken, since = 0, 0, state.at
  if #evaluable > 0 then
    -- It takes up to WINDOW heartbeats until it is certain that something is missing.
    since = (since or evaluable[1][1]) - WINDOW * (state.span or 0)
    local times, last, rest = {}, evaluable[#evaluable][1], {}
    for _, beat in ipairs(evaluable) do
      times[#times + 1] = beat[1]
      times[#times + 1] = beat[1] + SLACK
    end
    local started = count_until(starts, times)
    for _, beat in ipairs(evaluable) do
      lost = lost + look_at(state, beat, state.base + started[beat[1]], state.base + started[beat[1] + SLACK])
    end
    taken = started[last]
    for index = 1, #starts do
      if starts[index] > last then rest[#rest + 1] = starts[index] end
    end
    starts = rest
  end
  if lost > 0 and options.report then
    report(process, name, lost, state.at)
    keep_gap(name, lost, since, state.at)
    if counting then count_lost(name, lost) end
  end
  note_silence(process, name, state)
  state.base = state.base + taken
  keep(key[1], kept)
  keep(key[2], pack_starts(starts))
  keep(key[3], cmsgpack.pack(state))
end

-- How much work a process is; none without heartbeats. A value longer than apply.lua writes is from another version,
-- and a key of another type is foreign.
local function work_of(key)
  local beats, starts = unless_foreign('STRLEN', key[1]), unless_foreign('STRLEN', key[2])
  local known = unless_foreign('STRLEN', key[3])
  local is_ours = beats and starts and known and beats <= MAX_ENTRIES.heartbeats * BEAT_SIZE
    and starts <= MAX_ENTRIES.starts * START_SIZE and known <= LARGEST_ACCOUNT
  if not is_ours then
    begin_anew(key)
    return 0
  end
  return beats > 0 and beats / BEAT_SIZE + starts / START_SIZE or 0
end

-- Looks at processes until this call has done enough; returns where to continue.
local function look_at_processes(merged)
  local cursor, left = options.place[1] or '0', options.place[2] or {}
  if #left == 0 then
    local scanned
    cursor, scanned = unpack(redis.call('ZSCAN', keys.processes, cursor, 'COUNT', MAX_PROCESSES))
    for index = 1, #scanned, 2 do left[#left + 1] = scanned[index] end
  end
  local done, work = 0, 0
  for _, process in ipairs(left) do
    local key = { keys_of_process(process) }
    local more = work_of(key)
    if done > 0 and (work + more > MAX_WORK or done >= MAX_PROCESSES or is_enough(STEPS)) then break end
    done, work = done + 1, work + more
    if more > 0 then account(process, key, redis.call('GET', key[1]), merged) end
  end
  return { cursor, { unpack(left, done + 1) } }
end

local function write_rest()
  for _, write in ipairs(writes) do redis.call(unpack(write)) end
  if counting then write_counts() end
end

return leading(function()
  local merged = merged_by_all()
  local following = { '0', {} }
  if merged then following = look_at_processes(merged) end
  tell_of_silence()
  local latest = now - options.worker_ttl * 1000
  local old = redis.call('ZRANGEBYSCORE', keys.processes, '-inf', latest, 'LIMIT', 0, MAX_PROCESSES)
  if #old > 0 then later('ZREM', keys.processes, unpack(old)) end

  local first = commit(nil, write_rest)
  return { first, items, following }
end)
