-- Tasks with announcements or counts that wait for missing facts.
--
-- @include clock pieces work
-- @keys waiting
-- @option name_wait  ms for which a task waits at least (tick.lua)

local waiting

do
  local from, over = {}, {}
  local tasks = 0 -- how many tasks wait once everything is written

  -- Called before all others.
  local function begin()
    tasks = redis.call('ZCARD', keys.waiting)
  end

  local function note(uuid, is_waiting, was_waiting)
    if is_waiting then
      from[#from + 1] = now + options.name_wait
      from[#from + 1] = uuid
      will_write(TO_WRITE.index)
      if not was_waiting then tasks = tasks + 1 end
    elseif was_waiting then
      over[#over + 1] = uuid
      tasks = tasks - 1
    end
  end

  local function count()
    return tasks
  end

  local function write()
    in_pieces(from, 2 * PUSH_AT_ONCE, function(...) redis.call('ZADD', keys.waiting, 'NX', ...) end)
  end

  local function forget()
    in_pieces(over, PUSH_AT_ONCE, function(...) redis.call('ZREM', keys.waiting, ...) end)
  end

  waiting = { begin = begin, note = note, count = count, write = write, forget = forget }
end
