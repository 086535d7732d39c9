-- The index of open tasks, by which the leader checks them, and the marks of tasks that it found stuck or orphaned.
--
-- @include clock found looks phases pieces tables trouble work
-- @keys open open_since stuck orphaned
-- @option first_look  ms after which the leader first looks at an open task; nil for never

local open_tasks
local any_found = false -- whether any task is marked as stuck or orphaned

do
  local first_look = options.first_look
  local opened, closed, moved = {}, {}, {}
  local looks = {}
  local any_since = false -- whether the leader had looked at any task that was open (index/open_since.lua)

  -- When the leader first looks at a task that came into its phase at a time in µs. As text and rounded to a second,
  -- since converting a number takes longer than everything else, and many tasks share a second.
  local function look_at(at)
    local second = math.floor(at / 1000000)
    local text = looks[second]
    if text == nil then
      text = string.format('%.0f', time_of_look(second * 1000 + first_look))
      looks[second] = text
    end
    return text
  end

  -- A time in the future comes from a clock that is ahead, or is an eta; a look before an eta costs little.
  local function open(uuid, at)
    opened[#opened + 1] = look_at(math.min(at, now * 1000))
    opened[#opened + 1] = uuid
    will_write(TO_WRITE.index)
  end

  -- A task enters the index when it is first heard of, and leaves it when it ends; nothing is done in between. At its
  -- looks, the leader finds out what phase the task is in, and when to look again. A task that has ended enters the
  -- index again for a later run. Since the clocks of two workers may differ, there is a later run only if an event of
  -- it also arrived after the end, or if one clock shows it.
  -- has_begun: whether an event that can begin a run arrived after the last end.
  local function note(uuid, facts, is_new, was_open, at, has_begun)
    if facts.tk == nil then
      if is_new then open(uuid, at > 0 and at or now * 1000) end
      return
    end
    if facts.at then
      local phase, since, is_certain = phase_of(facts)
      if phase and (has_begun or is_certain) then
        open(uuid, since)
        return
      end
    end
    if was_open or facts.at then closed[#closed + 1] = uuid end
  end

  -- Called before all others. If a task that is marked changes its phase, it is checked anew.
  local function begin()
    any_found = first_look ~= nil and redis.call('EXISTS', keys.stuck, keys.orphaned) > 0
    any_since = first_look ~= nil and redis.call('EXISTS', keys.open_since) > 0
  end

  -- Whether the task has left the phase in which it was.
  local function note_move(uuid, facts, before, since_before)
    local phase, since = phase_of(facts)
    local is_elsewhere = phase ~= before or since ~= since_before
    if phase and is_elsewhere then
      moved[#moved + 1] = uuid
      open(uuid, since)
    end
    return is_elsewhere
  end

  local function write()
    if #opened == 0 then return end
    if (attempt('ZCARD', keys.open) or 0) < MAX_ENTRIES.open then
      in_pieces(opened, 2 * PUSH_AT_ONCE, function(...) attempt('ZADD', keys.open, ...) end)
    else
      refuse_entry('open', #opened / 2)
      in_pieces(opened, 2 * PUSH_AT_ONCE, function(...) attempt('ZADD', keys.open, 'XX', ...) end)
    end
  end

  local function forget()
    in_pieces(closed, PUSH_AT_ONCE, function(...)
      attempt('ZREM', keys.open, ...)
      if any_since then attempt('ZREM', keys.open_since, ...) end
    end)
    if any_found then
      forget_found(closed)
      forget_found(moved)
    end
  end

  open_tasks = { begin = begin, note = note, note_move = note_move, write = write, forget = forget }
end
