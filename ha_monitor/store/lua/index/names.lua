-- The names of tasks, and for each name the ids of its newest tasks, by when a task was first heard of under that name.
-- A list, because a list entry takes a sixth of the memory of a sorted-set entry, and needs one command for each batch
-- and name. A repeated call may leave an id in the list twice; readers take the first.
--
-- @include clock index/lists tables trouble work
-- @keys names
-- @families newest
-- @options failure_ttl

local names

do
  -- Ids of a name: how many are returned; the list is cut when it has twice as many. Names that one call sweeps.
  local MAX_NEWEST, SWEPT = 200, 10
  local RENEWED_AFTER = 1800 -- s for which a name need not be added again
  local newest = {} -- name -> {task id, …}
  local renamed = {} -- name, task id, …
  local turned_away = {} -- names for which this call found no room

  -- before: the name that the task had, or nil. It changes only if the task's events contradict each other.
  local function note(uuid, name, before)
    if before then
      renamed[#renamed + 1] = before
      renamed[#renamed + 1] = uuid
    end
    if not name then return end
    local ids = newest[name]
    if not ids then
      ids = {}
      newest[name] = ids
      will_write(TO_WRITE.name)
    end
    ids[#ids + 1] = uuid
  end

  -- Adds a name; refuses a new one if the table is full of names heard of lately. Returns whether it is in the table.
  local function enter(name)
    local added = attempt('ZADD', keys.names, now, name)
    if added ~= 1 then return added ~= nil end
    if redis.call('ZCARD', keys.names) <= MAX_ENTRIES.names then return true end
    refuse_entry('names')
    local oldest = redis.call('ZRANGE', keys.names, 0, 0, 'WITHSCORES')
    local gone = tonumber(oldest[2]) <= now - KEPT_FOR.silent_name and oldest[1] or name
    redis.call('ZREM', keys.names, gone)
    redis.call('DEL', families.newest .. gone)
    turned_away[name] = gone == name
    return gone ~= name
  end

  -- Whether a name is in the table or finds room there, so that other things may be kept about it.
  local function admit(name)
    return not turned_away[name] and (attempt('ZSCORE', keys.names, name) ~= false or enter(name))
  end

  local function write()
    for index = 1, #renamed, 2 do attempt('LREM', families.newest .. renamed[index], 0, renamed[index + 1]) end
    local latest = options.failure_ttl - RENEWED_AFTER
    for name, ids in pairs(newest) do
      local key = families.newest .. name
      local is_fresh = redis.call('TTL', key) > latest
      if is_fresh or enter(name) then
        push_ids(key, ids, 2 * MAX_NEWEST, MAX_NEWEST)
        if not is_fresh then attempt('EXPIRE', key, options.failure_ttl) end
      end
    end
  end

  -- Deletes some names whose records have expired.
  local function sweep()
    local latest = now - options.failure_ttl * 1000
    for _, name in ipairs(attempt('ZRANGEBYSCORE', keys.names, '-inf', latest, 'LIMIT', 0, SWEPT) or {}) do
      redis.call('ZREM', keys.names, name)
      redis.call('DEL', families.newest .. name)
    end
  end

  names = { note = note, admit = admit, write = write, sweep = sweep }
end
