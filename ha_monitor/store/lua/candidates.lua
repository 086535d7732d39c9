-- Finds open tasks that are overdue, or that a worker had started that is now lost, for the leader to ask about. A duty
-- of the leader. The broker requeues tasks that a lost worker had not started.
--
-- Bounded: each call looks at a limited number of records, or fewer large ones (work.lua). A task that is not overdue
-- is put off until it would be, but only by the least limit of its name, since the merge does not report that it came
-- to another phase. One that is handed out is put off for a minute, so that others get their turn and a new leader
-- finds it again if this one dies.
--
-- Fair: overdue tasks are grouped by name and worker, and handed out one of each group in turn: first the groups whose
-- worker is confirmed or, without a worker, whose name has a baseline. Tasks for which there was no room go behind all
-- that are due. So each call looks at other tasks, and many tasks about which nothing can be found out do not hold up
-- the rest for long.
--
-- @include clock duty found index/abandoned index/children index/open_since lifetime limits looks phases pieces record
-- @include rollback orphan_scan baseline work
-- @keys open orphaned liveness workers unconfirmed
-- @families task
-- @option most_records  how many records to look at
-- @option most_found  how many tasks to return
-- @option most_workers  how many workers to return
--
-- Returns {ms since the epoch, {{task id, phase, since when in µs, name, queue, worker, its state}, …}, 1 if more is
-- due or 0, {nodename, …} of the workers heard from last}. A text is empty if it is not known; the state is as in
-- `liveness`, or `gone` if the worker was not heard of for very long; 1 follows it if workers know the task by another
-- id. Returns false if the caller does not lead; or the error LEASELOST.

local ASKED_FOR, LOOK_ANYWAY = 60000, 86400000 -- ms
local SHARE_OF_SCAN = 0.5 -- of the work of a call

local states = {}

local function state_of_worker(name)
  if states[name] == nil then
    local state = redis.call('HGET', keys.liveness, name)
    if state then
      states[name] = string.match(state, '^%a+')
    else
      states[name] = redis.call('ZSCORE', keys.workers, name) and 'unknown' or 'gone'
    end
  end
  return states[name]
end

-- When a lost worker was last heard of, in ms; nil if it is not lost.
local function heard_before(name)
  if state_of_worker(name) ~= 'lost' then return nil end
  return tonumber(string.match(redis.call('HGET', keys.liveness, name), '^lost %S+ (%S+)'))
end

local found, closed, more = {}, {}, 0
local looks = {} -- when to look at a task again, its id, …

local function look_again(uuid, at)
  looks[#looks + 1] = string.format('%.0f', time_of_look(at))
  looks[#looks + 1] = uuid
end

-- Makes the tasks of lost workers due, before all others, some at each call. Also those that were handed out before: a
-- worker was asked about them that did not answer.
local function scan_for_orphans()
  local cursor, turns, left = read_orphan_scan()
  if not turns or turns == 0 then return 0 end
  if #left == 0 then
    local scanned
    cursor, scanned = unpack(redis.call('ZSCAN', keys.open, cursor, 'COUNT', options.most_records / 2))
    for index = 1, #scanned, 2 do left[#left + 1] = scanned[index] end
  end
  local due_now, looked = {}, 0
  for _, uuid in ipairs(left) do
    if looked > 0 and is_full(SHARE_OF_SCAN) then break end
    looked = looked + 1
    local facts = load_record(families.task .. uuid)
    local phase, since = phase_of(facts)
    if phase and phase ~= SENT_PHASE and facts.w and state_of_worker(facts.w) == 'lost' then
      abandoned.enter_lost(facts.w, uuid, phase == STARTED_PHASE and since or nil)
      if phase == STARTED_PHASE and redis.call('HEXISTS', keys.orphaned, uuid) == 0 then
        due_now[#due_now + 1] = 0
        due_now[#due_now + 1] = uuid
        open_since.enter(uuid, facts)
      end
    end
  end
  in_pieces(due_now, 2 * PUSH_AT_ONCE, function(...) redis.call('ZADD', keys.open, ...) end)
  abandoned.confirm(heard_before)
  abandoned.write()
  left = { unpack(left, looked + 1) }
  if cursor == '0' and #left == 0 then turns = turns - 1 end
  if turns > 0 then more = 1 end
  write_orphan_scan(cursor, turns, left)
  return looked
end

local known = {}

-- Whether a worker is confirmed or, without a worker, whether the name has a baseline.
local function is_known(worker, name)
  local key = worker ~= '' and worker or '\0' .. name
  if known[key] == nil then
    if worker ~= '' then
      local state = state_of_worker(worker)
      known[key] = state ~= 'gone' and not redis.call('ZSCORE', keys.unconfirmed, worker)
    else
      known[key] = baseline_run_time(name) and true or false
    end
  end
  return known[key]
end

local groups, group_of = {}, {} -- in the order in which they are due; key -> group

local function note_overdue(candidate)
  local phase, name, worker = candidate[2], candidate[4], candidate[6]
  local sender = phase ~= SENT_PHASE and worker or ''
  local key = name .. '\0' .. sender
  local group = group_of[key]
  if not group then
    group = { known = is_known(sender, name) }
    group_of[key] = group
    groups[#groups + 1] = group
  end
  group[#group + 1] = candidate
end

-- Looks at an open task: notes it if it is overdue, or says when to look again.
local function look(uuid, facts)
  children.keep(uuid, facts)
  open_since.enter(uuid, facts)
  local phase, since = phase_of(facts)
  local least = least_limit(facts.n) or LOOK_ANYWAY
  if phase == nil then
    look_again(uuid, now + least)
    return
  end
  local limit = limit_of(facts.n, phase)
  local state = phase ~= SENT_PHASE and facts.w and state_of_worker(facts.w) or ''
  local from = since_by_store(facts, phase, since)
  if rollback.hides(from / 1000) then
    look_again(uuid, now + least)
    return
  end
  local left = limit and since > 0 and from / 1000 + limit - now or LOOK_ANYWAY
  if left > 0 and phase ~= SENT_PHASE then left = math.min(left, lifetime.left(families.task .. uuid)) end
  if left > 0 and (phase ~= STARTED_PHASE or state ~= 'lost' or redis.call('HEXISTS', keys.orphaned, uuid) == 1) then
    look_again(uuid, now + math.min(left, least))
  else
    note_overdue({ uuid, phase, since, facts.n or '', facts.q or '', facts.w or '', state, facts.o and 1 })
  end
end

-- Hands out overdue tasks, one of each group in turn.
local function hand_out(of_known)
  local left, round = {}, 1
  for _, group in ipairs(groups) do
    if group.known == of_known then left[#left + 1] = group end
  end
  while #left > 0 do
    local longer = {}
    for _, group in ipairs(left) do
      local candidate = group[round]
      if #found < options.most_found then
        found[#found + 1] = candidate
        look_again(candidate[1], now + ASKED_FOR)
      else
        more = 1
        look_again(candidate[1], now)
      end
      if group[round + 1] then longer[#longer + 1] = group end
    end
    left, round = longer, round + 1
  end
end

return leading(function()
  local most_looks = math.max(1, options.most_records - scan_for_orphans())
  local due = redis.call('ZRANGEBYSCORE', keys.open, '-inf', now, 'LIMIT', 0, most_looks)
  if #due >= most_looks then more = 1 end
  local looked = 0
  for _, uuid in ipairs(due) do
    if looked > 0 and is_full() then
      more = 1
      break
    end
    looked = looked + 1
    local facts, seen = load_record(families.task .. uuid)
    if seen == '' or (facts.tk ~= nil and not phase_of(facts)) then
      closed[#closed + 1] = uuid
      open_since.leave(uuid)
    else
      look(uuid, facts)
    end
  end
  hand_out(true)
  hand_out(false)
  in_pieces(looks, 2 * PUSH_AT_ONCE, function(...) redis.call('ZADD', keys.open, ...) end)
  in_pieces(closed, PUSH_AT_ONCE, function(...) redis.call('ZREM', keys.open, ...) end)
  open_since.write()
  forget_found(closed)
  return { now, found, more, redis.call('ZREVRANGE', keys.workers, 0, options.most_workers - 1) }
end)
