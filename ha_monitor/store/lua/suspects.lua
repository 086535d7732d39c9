-- Finds open tasks that are overdue, or whose worker is lost, for the leader to ask about. A duty of the leader.
--
-- Bounded: so many records are looked at a call. A task that is not overdue is put off until it would be, though not
-- for longer than the least limit of its name, since the merge does not say that it came to another phase; one that is
-- handed out, for a minute, so that the others get their turn and a new leader finds it again if this one dies.
--
-- Fair: of the overdue ones, tasks that belong together by name and worker are handed out in turn with all others,
-- those first whose worker or name is known for longer. Those for which there was no room go behind all that are due.
-- So each call looks at others, and a crowd of which one could not have anything keeps nobody away for long.
--
-- KEYS[1] leases     zset    token of a living instance -> end of its lease, ms since the epoch
-- KEYS[2] instance   hash    the caller's entry, as in outbox.lua
-- KEYS[3] outbox     list    entries that the caller has yet to announce
-- KEYS[4] leader     string  the token of the leader
-- KEYS[5] open       zset    id of a task that is not finished -> when to look at it, ms since the epoch
-- KEYS[6] stuck      hash    id of a task that was said to be stuck -> the phase it then was in, and since when
-- KEYS[7] orphaned   hash    the same for those said to be orphaned
-- KEYS[8] usual      hash    usual run times, as phases.lua describes them
-- KEYS[9] liveness   hash    nodename -> its state, as watch.lua writes it
-- KEYS[10] workers   zset    nodename -> when an instance last heard of it, ms since the epoch
-- KEYS[11] sweep     string  as sweep.lua describes it
-- KEYS[12] newcomers zset    nodename of a worker that is not confirmed -> when it was first heard of, ms
-- and, by prefix: ARGV[2]t:<task id> the records.
--
-- ARGV[1] the caller's token
-- ARGV[2] prefix of the keys
-- ARGV[3] sequence number below which the caller has announced everything
-- ARGV[4] MessagePack: {limits as in phases.lua, most records to look at, most tasks to return}
--
-- Returns {ms since the epoch, {{task id, phase, since when in µs, name, queue, worker, its state}, …}, 1 if more is
-- due or 0}: a text is empty where nothing is known, the state is as in `liveness`, or `gone` if the worker was not
-- heard of for very long. Nothing if the caller does not lead; or the error LEASELOST.

local ASKED_FOR, LOOK_ANYWAY = 60000, 86400000 -- ms
local prefix = ARGV[2]
local limits, most_looks, most_found = unpack(cmsgpack.unpack(ARGV[4]))
local now = now_ms()

local states = {}

local function state_of_worker(name)
  if states[name] == nil then
    local state = redis.call('HGET', KEYS[9], name)
    if state then
      states[name] = string.match(state, '^%a+')
    else
      states[name] = redis.call('ZSCORE', KEYS[10], name) and 'unknown' or 'gone'
    end
  end
  return states[name]
end

local found, closed, more = {}, {}, 0
local looks = {} -- when to look at a task again, and its id, one after the other

local function look_again(uuid, at)
  looks[#looks + 1] = string.format('%.0f', at)
  looks[#looks + 1] = uuid
end

-- Makes the tasks of lost workers due, before all others, some at each call. Also those that were handed out before:
-- they were asked of a worker that did not answer.
local function sweep()
  local cursor, turns = read_sweep(KEYS[11])
  if not turns or turns == 0 then return 0 end
  local following, scanned = unpack(redis.call('ZSCAN', KEYS[5], cursor, 'COUNT', most_looks / 2))
  local due_now = {}
  for index = 1, #scanned, 2 do
    local uuid = scanned[index]
    local facts = load_record(prefix .. 't:' .. uuid)
    local phase = phase_of(facts)
    if phase and phase ~= SENT_PHASE and facts.w and state_of_worker(facts.w) == 'lost'
      and redis.call('HEXISTS', KEYS[7], uuid) == 0 then
      due_now[#due_now + 1] = 0
      due_now[#due_now + 1] = uuid
    end
  end
  in_pieces(due_now, 2 * PUSH_AT_ONCE, function(...) redis.call('ZADD', KEYS[5], ...) end)
  if following == '0' then turns = turns - 1 end
  if turns > 0 then more = 1 end
  write_sweep(KEYS[11], following, turns)
  return #scanned / 2
end

local known = {}

-- Whether a worker is one that was confirmed, or without one, whether a name is one that has often run.
local function is_known(worker, name)
  local key = worker ~= '' and worker or '\0' .. name
  if known[key] == nil then
    if worker ~= '' then
      local state = state_of_worker(worker)
      known[key] = state ~= 'gone' and not redis.call('ZSCORE', KEYS[12], worker)
    else
      known[key] = usual_run_time(KEYS[8], name) and true or false
    end
  end
  return known[key]
end

local groups, group_of = {}, {} -- those that belong together, in the order in which they are due

local function note_overdue(suspect)
  local phase, name, worker = suspect[2], suspect[4], suspect[6]
  local sender = phase ~= SENT_PHASE and worker or ''
  local key = name .. '\0' .. sender
  local group = group_of[key]
  if not group then
    group = { known = is_known(sender, name) }
    group_of[key] = group
    groups[#groups + 1] = group
  end
  group[#group + 1] = suspect
end

-- Looks at an open task: notes it if it is overdue, or says when to look again.
local function look(uuid, facts)
  local phase, since = phase_of(facts)
  local least = least_limit(limits, KEYS[8], facts.n) or LOOK_ANYWAY
  if phase == nil then
    look_again(uuid, now + least)
    return
  end
  local limit = limit_of(limits, KEYS[8], facts.n, phase)
  local state = phase ~= SENT_PHASE and facts.w and state_of_worker(facts.w) or ''
  local left = limit and since > 0 and since / 1000 + limit - now or LOOK_ANYWAY
  if left > 0 and (state ~= 'lost' or redis.call('HEXISTS', KEYS[7], uuid) == 1) then
    look_again(uuid, now + math.min(left, least))
  else
    note_overdue({ uuid, phase, since, facts.n or '', facts.q or '', facts.w or '', state })
  end
end

-- Hands out what is overdue, one of each group in turn.
local function hand_out(of_known)
  local left, round = {}, 1
  for _, group in ipairs(groups) do
    if group.known == of_known then left[#left + 1] = group end
  end
  while #left > 0 do
    local longer = {}
    for _, group in ipairs(left) do
      local suspect = group[round]
      if #found < most_found then
        found[#found + 1] = suspect
        look_again(suspect[1], now + ASKED_FOR)
      else
        more = 1
        look_again(suspect[1], now)
      end
      if group[round + 1] then longer[#longer + 1] = group end
    end
    left, round = longer, round + 1
  end
end

most_looks = math.max(1, most_looks - sweep())
local due = redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', now, 'LIMIT', 0, most_looks)
if #due >= most_looks then more = 1 end
for _, uuid in ipairs(due) do
  local facts, seen = load_record(prefix .. 't:' .. uuid)
  if facts.tk ~= nil or seen == '' then
    closed[#closed + 1] = uuid
  else
    look(uuid, facts)
  end
end
hand_out(true)
hand_out(false)
in_pieces(looks, 2 * PUSH_AT_ONCE, function(...) redis.call('ZADD', KEYS[5], ...) end)
in_pieces(closed, PUSH_AT_ONCE, function(...) redis.call('ZREM', KEYS[5], ...) end)
forget_found(KEYS[6], KEYS[7], closed)
return { now, found, more }
