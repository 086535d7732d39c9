-- Which workers have a record: if there is no room for all, those that are best proven.
--
-- @include clock tables
-- @keys workers unconfirmed young liveness skewed
-- @families worker

local function forget_worker(name)
  redis.call('ZREM', keys.workers, name)
  redis.call('ZREM', keys.unconfirmed, name)
  redis.call('ZREM', keys.young, name)
  redis.call('HDEL', keys.liveness, name)
  redis.call('HDEL', keys.skewed, name)
  redis.call('DEL', families.worker .. name)
end

local admit_worker

do
  local workers_full = false

  -- Forgets the worker that is proven least, if any may be forgotten: one that was never confirmed, or a young one that
  -- has fallen silent, or one that has been silent for long. Returns whether there was one.
  local function make_room()
    local removable = {
      { keys.unconfirmed, KEPT_FOR.trial }, { keys.young, KEPT_FOR.silent_young },
      { keys.workers, KEPT_FOR.silent_worker },
    }
    for _, kind in ipairs(removable) do
      local first = redis.call('ZRANGE', kind[1], 0, 0, 'WITHSCORES')
      if first[2] and tonumber(first[2]) <= now - kind[2] then
        forget_worker(first[1])
        return true
      end
    end
    return false
  end

  -- Admits a new worker; returns whether there is room for it.
  function admit_worker(name)
    if workers_full or redis.call('ZCARD', keys.workers) >= MAX_ENTRIES.workers then
      refuse_entry('workers')
      workers_full = workers_full or not make_room()
      if workers_full then return false end
    end
    redis.call('ZADD', keys.unconfirmed, now, name)
    redis.call('ZADD', keys.workers, now, name)
    return true
  end
end
