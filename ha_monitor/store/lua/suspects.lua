-- Finds open tasks that are overdue, or whose worker is lost, for the leader to ask about. A duty of the leader.
--
-- Bounded: so many records are looked at a call. A task that is not overdue is put off until it would be, though not for
-- longer than the least limit of its name, since the merge does not say that it came to another phase; one that is
-- handed out, for a minute, so that the others get their turn and a new leader finds it again if this one dies.
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
-- KEYS[11] sweep     string  digest of the lost workers whose tasks are being looked for, and how far that is
-- and, by prefix: ARGV[2]t:<task id> the records.
--
-- ARGV[1] the caller's token
-- ARGV[2] prefix of the keys
-- ARGV[3] sequence number below which the caller has announced everything
-- ARGV[4] MessagePack: {limits as in phases.lua, most records to look at, most tasks to return}
--
-- Returns {ms since the epoch, {{task id, phase, since when in µs, name, queue, worker, its state}, …}, 1 if more is due
-- or 0}: a text is empty where nothing is known, the state is as in `liveness`, or `gone` if the worker was not heard of
-- for very long. Nothing if the caller does not lead; or the error LEASELOST.

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

-- Makes the tasks of lost workers due, before all others, some at each call: once for each change of the workers that
-- are lost, and again a minute after that, for what came late. Also those that were handed out before: they were asked
-- of a worker that did not answer.
local function sweep()
  local lost, texts = false, {}
  local liveness = redis.call('HGETALL', KEYS[9])
  for index = 1, #liveness, 2 do
    if string.sub(liveness[index + 1], 1, 4) == 'lost' then
      lost = true
      texts[#texts + 1] = liveness[index] .. ' ' .. liveness[index + 1]
    end
  end
  if not lost then return end
  local digest = redis.sha1hex(table.concat(texts, '\0'))
  local known, cursor = string.match(redis.call('GET', KEYS[11]) or '', '^(%x+) (%w+)$')
  if known ~= digest then
    cursor = '0'
  elseif cursor == 'done' then
    return
  end
  local following, scanned = unpack(redis.call('ZSCAN', KEYS[5], cursor, 'COUNT', most_looks))
  if following ~= '0' then more = 1 end
  for index = 1, #scanned, 2 do
    local uuid = scanned[index]
    local facts = load_record(prefix .. 't:' .. uuid)
    local phase = phase_of(facts)
    if phase and phase ~= SENT_PHASE and facts.w and state_of_worker(facts.w) == 'lost'
      and redis.call('HEXISTS', KEYS[7], uuid) == 0 then
      redis.call('ZADD', KEYS[5], 0, uuid)
    end
  end
  redis.call('SET', KEYS[11], digest .. ' ' .. (following == '0' and 'done' or following), 'PX', ASKED_FOR)
end

sweep()
-- Looks at a task; returns when to do so again, or nil if it must wait for another call.
local function look(uuid, facts)
  local phase, since = phase_of(facts)
  local least = least_limit(limits, KEYS[8], facts.n) or LOOK_ANYWAY
  if phase == nil then
    return now + least
  end
  local limit = limit_of(limits, KEYS[8], facts.n, phase)
  local state = phase ~= SENT_PHASE and facts.w and state_of_worker(facts.w) or ''
  local left = limit and since > 0 and since / 1000 + limit - now or LOOK_ANYWAY
  if left > 0 and (state ~= 'lost' or redis.call('HEXISTS', KEYS[7], uuid) == 1) then
    return now + math.min(left, least)
  elseif #found >= most_found then
    return nil
  end
  found[#found + 1] = { uuid, phase, since, facts.n or '', facts.q or '', facts.w or '', state }
  return now + ASKED_FOR
end

local due = redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', now, 'LIMIT', 0, most_looks)
if #due >= most_looks then more = 1 end
for _, uuid in ipairs(due) do
  local facts, seen = load_record(prefix .. 't:' .. uuid)
  if facts.tk ~= nil or seen == '' then
    closed[#closed + 1] = uuid
  else
    local next_look = look(uuid, facts)
    if next_look == nil then
      more = 1
      break
    end
    redis.call('ZADD', KEYS[5], next_look, uuid)
  end
end
if #closed > 0 then
  for start = 1, #closed, PUSH_AT_ONCE do
    redis.call('ZREM', KEYS[5], unpack(closed, start, math.min(start + PUSH_AT_ONCE - 1, #closed)))
  end
  forget_found(KEYS[6], KEYS[7], closed)
end
return { now, found, more }
