-- A store that went back to an earlier state: after a fail-over to a replica that lagged, a restore from an older file,
-- the deletion of all keys, or the loss of the last second of a file. Each instance remembers how many of its calls
-- were confirmed, and the store counts them: if the store has counted fewer, the rest is lost. The first instance that
-- notices this writes down the time, for all: what was merged before it may be missing, so nothing is concluded from
-- its absence (see the files that include this one), and what is merged again may have been announced before.
--
-- @include clock stored trouble
-- @keys clock rollback
-- @options failure_ttl
-- @option known_rollback  when the last such loss known to the caller was noticed, in ms since the epoch; 0 if none

local rollback = {}

do
  local noticed

  -- When the store was last found to have gone back, in ms since the epoch; 0 if that is not known. Everything merged
  -- later is there.
  function rollback.at()
    if noticed == nil then
      local found = stored_number(keys.rollback, unless_foreign('GET', keys.rollback), now + LATEST) or 0
      noticed = math.max(found, options.known_rollback)
      -- The store may have lost this time, too.
      if noticed > found then redis.pcall('SET', keys.rollback, noticed, 'EX', options.failure_ttl) end
    end
    return noticed
  end

  -- Whether some of what came after a time in ms may be missing.
  function rollback.hides(since)
    return rollback.at() > 0 and since <= rollback.at()
  end

  -- Whether the store went back less than `time` ms ago.
  function rollback.is_recent(time)
    local ago = now - rollback.at()
    return rollback.at() > 0 and ago >= 0 and ago < time
  end

  -- Writes down that the store went back, unless another instance has done so and the caller does not know of it yet.
  -- Returns what to report: {the time in ms since the epoch until which the store has everything, or 0 if it has
  -- nothing; the number of lost calls}, or nil.
  function rollback.note(since, calls)
    if rollback.at() > options.known_rollback then return nil end
    local last = since or stored_number(keys.clock, unless_foreign('GET', keys.clock)) or 0
    noticed = math.max(now, noticed + 1)
    redis.pcall('SET', keys.rollback, noticed, 'EX', options.failure_ttl)
    return { last, calls }
  end
end
