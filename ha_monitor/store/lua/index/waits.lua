-- Tasks that have not started, by queue and by when they could have: when they were sent (by Redis's clock if the
-- sender's is wrong), or a later eta. Only for tasks whose producers send task-sent, which names the queue.
--
-- All queues share one sorted set, so one command for each batch adds tasks and one removes them, whatever their
-- queues: task id -> the number of the queue times 2^42, plus that time in ms. The queues in which tasks have waited
-- have their numbers in a hash.
--
-- @include clock numbers pieces sender_clocks stored tables trouble work
-- @keys waits wait_queues
-- @families task

local waits

do
  local A_QUEUE = 2 ^ 42 -- more ms than any valid time
  local MAX_QUEUES, SWEPT = 1000, 20
  local entered, left, numbers = { size = 0 }, {}, {}

  -- The queue in which a task waits, and since when, in µs; nil if it does not wait, or that is not known.
  local function of(facts)
    local since, queue = facts.st, facts.q
    if not since or since == 0 or not queue or facts.tk ~= nil then return nil end
    local closed = (facts.xc or 0) + (facts.jc or 0)
    if (facts.sc or 0) > closed then return nil end
    if facts.cm then
      since = sender_clocks.queued_at(facts)
    elseif facts.xl and facts.xl > since then
      since = facts.xl
    end
    if facts.e and facts.e > since then since = facts.e end
    return queue, since
  end

  local function range_of(number)
    return string.format('%.0f', number * A_QUEUE), string.format('(%.0f', (number + 1) * A_QUEUE)
  end

  -- The lowest free number; nil if there are too many queues.
  local function free_number()
    local taken, count = {}, 0
    for _, number in ipairs(attempt('HVALS', keys.wait_queues) or {}) do
      taken[number_in(number, MAX_QUEUES) or -1], count = true, count + 1
    end
    if count >= MAX_QUEUES then return nil end
    local number = 0
    while taken[number] do number = number + 1 end
    return number
  end

  -- The number of a queue; false if it has none and there is no room for another one.
  local function number_of(queue)
    local number = numbers[queue]
    if number ~= nil then return number end
    number = stored_number(keys.wait_queues, attempt('HGET', keys.wait_queues, queue), MAX_QUEUES - 1)
    if not number then
      number = free_number()
      if number and not attempt('HSET', keys.wait_queues, queue, number) then number = nil end
    end
    numbers[queue] = number or false
    return numbers[queue]
  end

  -- queue, since: nil if the task no longer waits.
  local function note(uuid, queue, since)
    if queue then
      local size = entered.size
      entered[size + 1], entered[size + 2], entered[size + 3] = uuid, queue, since
      entered.size = size + 3
    else
      left[#left + 1] = uuid
    end
    will_write(TO_WRITE.index)
  end

  local function write()
    local scores = {}
    for index = 1, entered.size, 3 do
      local uuid, number = entered[index], number_of(entered[index + 1])
      if number then
        scores[#scores + 1] = string.format('%.0f', number * A_QUEUE + math.floor(entered[index + 2] / 1000))
        scores[#scores + 1] = uuid
      else
        refuse_entry('waits')
        left[#left + 1] = uuid
      end
    end
    in_pieces(left, PUSH_AT_ONCE, function(...) attempt('ZREM', keys.waits, ...) end)
    if #scores == 0 then return end
    local condition = nil
    if (attempt('ZCARD', keys.waits) or 0) >= MAX_ENTRIES.waits then
      refuse_entry('waits', #scores / 2)
      condition = 'XX'
    end
    in_pieces(scores, 2 * PUSH_AT_ONCE, function(...)
      if condition then attempt('ZADD', keys.waits, condition, ...) else attempt('ZADD', keys.waits, ...) end
    end)
  end

  -- If many queues have numbers, frees those of queues in which nothing waits; checks some at each call, in turn.
  local function sweep_queues()
    local count = attempt('HLEN', keys.wait_queues) or 0
    if count <= MAX_QUEUES / 2 then return end
    local all = redis.call('HGETALL', keys.wait_queues)
    for step = 1, math.min(SWEPT, count) do
      local at = (now + step) % count * 2
      local number = number_in(all[at + 2], MAX_QUEUES)
      if not number or redis.call('ZCOUNT', keys.waits, range_of(number)) == 0 then
        redis.call('HDEL', keys.wait_queues, all[at + 1])
      end
    end
  end

  -- Deletes tasks whose records have expired; checks some at each call, in turn.
  local function sweep()
    local count = attempt('ZCARD', keys.waits) or 0
    if count > 0 then
      local first = count > SWEPT and now % count or 0
      for _, uuid in ipairs(redis.call('ZRANGE', keys.waits, first, first + SWEPT - 1)) do
        if redis.call('EXISTS', families.task .. uuid) == 0 then redis.call('ZREM', keys.waits, uuid) end
      end
    end
    sweep_queues()
  end

  waits = { of = of, note = note, write = write, sweep = sweep, number_of = number_of }
end
