-- Open tasks that the leader has looked at, by when they were first heard of: task id -> ms since the epoch, from the
-- task's record. A task that it has not looked at yet is in `open` by the time of its first look, so both together list
-- the open tasks by age. Only the leader adds tasks, so merging tasks that end before their first look costs nothing.
--
-- The time is never before the task was first heard of; for a task that was retried it is that of its last attempt.
-- A task without a known time is not added.
--
-- @include pieces trouble
-- @keys open open_since

local open_since

do
  local SWEPT = 20 -- entries at each tick
  local entered, left = {}, {}

  local function enter(uuid, facts)
    local least = math.huge
    for _, at in ipairs({ facts.st or 0, facts.rl or 0, facts.sl or 0, facts.xl or 0 }) do
      if at > 0 and at < least then least = at end
    end
    if least == math.huge then return end
    entered[#entered + 1] = string.format('%.0f', math.ceil(least / 1000))
    entered[#entered + 1] = uuid
  end

  local function leave(uuid)
    left[#left + 1] = uuid
  end

  local function write()
    in_pieces(entered, 2 * PUSH_AT_ONCE, function(...) attempt('ZADD', keys.open_since, 'LT', ...) end)
    in_pieces(left, PUSH_AT_ONCE, function(...) attempt('ZREM', keys.open_since, ...) end)
  end

  -- Deletes tasks that are no longer open, which an earlier version does not do. Checks some at each call, in turn.
  local function sweep(turn)
    local count = attempt('ZCARD', keys.open_since) or 0
    if count == 0 then return end
    local first = count > SWEPT and turn % count or 0
    for _, uuid in ipairs(redis.call('ZRANGE', keys.open_since, first, first + SWEPT - 1)) do
      if attempt('ZSCORE', keys.open, uuid) == false then redis.call('ZREM', keys.open_since, uuid) end
    end
  end

  open_since = { enter = enter, leave = leave, write = write, sweep = sweep }
end
