-- Deadlines after a step back of Redis's clock, or a fail-over to a host whose clock is behind: they then lie further
-- ahead than they were set, and would be met that much later. So each tick compares the clock with that of the previous
-- tick of any instance, and after a step brings back every deadline that lies further ahead than possible. A lease or a
-- wait then runs for its whole length once more, so no living instance loses its lease; handlers are called and tasks
-- looked at immediately.
--
-- @include clock looks numbers pieces stored trouble
-- @keys clock leases waiting retries open requeued
-- @families instance
-- @options lease name_wait requeue_delay

local deadlines = {}

do
  local MIN_STEP = 1000 -- ms: a smaller step costs no more than its own length
  local AT_ONCE = 5000 -- entries of one index that a call changes
  local is_all = true

  -- Makes entries that lie further ahead than `most` ms due in `left` ms.
  local function bring_back(key, most, left)
    local latest, due = string.format('(%.0f', now + most), string.format('%.0f', now + left)
    local ahead = attempt('ZREVRANGEBYSCORE', key, '+inf', latest, 'LIMIT', 0, AT_ONCE) or {}
    local moved = {}
    for _, member in ipairs(ahead) do
      moved[#moved + 1] = due
      moved[#moved + 1] = member
    end
    in_pieces(moved, 2 * PUSH_AT_ONCE, function(...) redis.call('ZADD', key, 'XX', ...) end)
    if #ahead == AT_ONCE then is_all = false end
  end

  -- Shortens leases that end later than possible, to the length that the instance has published, or else the caller's.
  -- How far such an instance had merged is unknown until its next tick.
  local function bring_back_leases()
    local latest = string.format('%.0f', now + options.lease)
    local ahead = redis.call('ZRANGEBYSCORE', keys.leases, '(' .. latest, '+inf', 'WITHSCORES', 'LIMIT', 0, AT_ONCE)
    for index = 1, #ahead, 2 do
      local token, instance = ahead[index], families.instance .. ahead[index]
      local length = stored_number(instance, unless_foreign('HGET', instance, 'lease')) or options.lease
      if tonumber(ahead[index + 1]) > now + length then
        redis.call('ZADD', keys.leases, 'XX', now + length, token)
        unless_foreign('HDEL', instance, 'merged')
      end
    end
  end

  -- Brings deadlines back if the clock was put back since the last tick; returns by how many ms, or 0.
  function deadlines.check()
    bring_back_leases()
    local last = stored_number(keys.clock, unless_foreign('GET', keys.clock))
    local step = last and last - now or 0
    if step < MIN_STEP then
      redis.call('SET', keys.clock, now)
      return 0
    end
    bring_back(keys.waiting, options.name_wait, options.name_wait)
    bring_back(keys.retries, 0, 0)
    bring_back(keys.open, MAX_FIRST_LOOK, 0)
    local requeued = number_in(attempt('GET', keys.requeued) or '')
    local latest = now + options.requeue_delay
    if requeued and requeued > latest then redis.call('SET', keys.requeued, latest, 'EX', 3600) end
    if not is_all then return 0 end -- the next tick continues
    redis.call('SET', keys.clock, now)
    return step
  end
end
