-- Tasks with announcements or counts that wait for a piece.
--
-- @include clock pieces work
-- @keys waiting
-- @option name_wait  ms for which a task waits at most

local waiting = {}

do
  local from, over = {}, {}
  local count = 0

  -- Before all others.
  function waiting.begin()
    count = redis.call('ZCARD', keys.waiting)
  end

  function waiting.note(uuid, is_waiting, was_waiting)
    if is_waiting then
      from[#from + 1] = now + options.name_wait
      from[#from + 1] = uuid
      will_write(TO_WRITE.index)
      if not was_waiting then count = count + 1 end
    elseif was_waiting then
      over[#over + 1] = uuid
      count = count - 1
    end
  end

  -- How many tasks wait when all is written.
  function waiting.count()
    return count
  end

  function waiting.write()
    in_pieces(from, 2 * PUSH_AT_ONCE, function(...) redis.call('ZADD', keys.waiting, 'NX', ...) end)
  end

  function waiting.forget()
    in_pieces(over, PUSH_AT_ONCE, function(...) redis.call('ZREM', keys.waiting, ...) end)
  end
end
