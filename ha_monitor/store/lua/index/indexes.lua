-- The indexes by which tasks are searched. Each index follows from a task's record as it was before a call and as it is
-- after it, and is written before the records: a call that failed in between is repeated, finds the record unchanged,
-- and writes the same index entries again.
--
-- @include generated/catalogue index/abandoned index/children index/ended_badly index/flow index/names index/waits

local indexes

do
  local finish, ended_at, name, root, queue, since
  local remember_flow, note_flow = flow.remember, flow.note

  -- Called before a task's events are merged.
  local function remember(facts)
    finish, ended_at, name = facts.tk, facts.tt, facts.n
    root = facts.r ~= true and facts.r or nil
    queue, since = nil, nil
    if facts.st and not finish then queue, since = waits.of(facts) end
    remember_flow(facts)
  end

  -- Called after they are merged. is_elsewhere: whether the task has left the phase in which it may have been orphaned.
  local function note(uuid, facts, is_elsewhere)
    if facts.n ~= name then names.note(uuid, facts.n, name) end
    note_flow(facts)
    local code = facts.tk
    if facts.st and (since or not code) then
      local queue_now, since_now = waits.of(facts)
      if queue_now ~= queue or since_now ~= since then waits.note(uuid, queue_now, since_now) end
    end
    local root_now = facts.r
    if root_now == true then root_now = nil end
    if root_now or root then children.note(uuid, facts, root_now, root, code ~= finish) end
    if is_elsewhere or ((code ~= finish or facts.tt ~= ended_at) and (finish or code ~= SUCCEEDED)) then
      ended_badly.note(uuid, facts)
    end
  end

  local function write()
    ended_badly.write()
    names.write()
    waits.write()
    children.write()
    abandoned.write()
  end

  -- Deletes some expired entries, at each tick.
  local function sweep()
    ended_badly.sweep()
    names.sweep()
    waits.sweep()
    abandoned.sweep()
  end

  indexes = { remember = remember, note = note, write = write, sweep = sweep }
end
