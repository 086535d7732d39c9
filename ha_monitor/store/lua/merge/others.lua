-- Events that belong to no task.
--
-- @include outbox merge/tally
-- @families event
-- @options success_ttl
-- @option others  {{id, payload}, …}

local others

do
  local ids, is_known = {}, {}

  -- Remembers an event that belongs to no task; returns whether it is new.
  local function is_new(id)
    if is_known[id] or redis.call('EXISTS', families.event .. id) == 1 then
      tally.add(0, 1)
      return false
    end
    is_known[id] = true
    ids[#ids + 1] = id
    tally.add(1, 0)
    return true
  end

  local function merge()
    for _, fact in ipairs(options.others) do
      if is_new(fact[1]) then put_event(fact[2], NIL, false) end
    end
  end

  local function write()
    for _, id in ipairs(ids) do redis.call('SET', families.event .. id, '', 'EX', options.success_ttl) end
  end

  others = { is_new = is_new, merge = merge, write = write }
end
