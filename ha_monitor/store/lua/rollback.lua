-- A store that went back to an earlier state: a fail-over led to a replica that had not got all, an older file was put
-- back, all keys were deleted, or the last second of a file is missing. Each instance remembers how many of its calls
-- were confirmed, and the store counts them: where it has counted fewer, the rest is lost. Whoever notices that first
-- notes when, for all: what was merged until then may be missing, so nothing is concluded from that (see who includes
-- this), and what is merged again may have been announced before.
--
-- @include clock stored trouble
-- @keys clock rollback
-- @options failure_ttl
-- @option known_rollback  when the last one was noticed that the caller knows of, in ms since the epoch; 0 if none

local rollback = {}

do
  local noticed

  -- When it was last noticed that the store had gone back, in ms since the epoch; 0 if that is not known. What was
  -- merged later is there.
  function rollback.at()
    if noticed == nil then
      local found = stored_number(keys.rollback, unless_foreign('GET', keys.rollback), now + LATEST) or 0
      noticed = math.max(found, options.known_rollback)
      -- The store may have forgotten that, too.
      if noticed > found then redis.pcall('SET', keys.rollback, noticed, 'EX', options.failure_ttl) end
    end
    return noticed
  end

  -- Whether what came after a time in ms may be missing.
  function rollback.hides(since)
    return rollback.at() > 0 and since <= rollback.at()
  end

  -- Whether that was less than a time in ms ago.
  function rollback.is_recent(time)
    local ago = now - rollback.at()
    return rollback.at() > 0 and ago >= 0 and ago < time
  end

  -- Notes it, unless somebody has done so whom the caller does not know of yet. Returns what is to be told of it:
  -- {until when the store has everything, in ms since the epoch or 0 if it has nothing, calls that are lost}, or nil.
  function rollback.note(since, calls)
    if rollback.at() > options.known_rollback then return nil end
    local last = since or stored_number(keys.clock, unless_foreign('GET', keys.clock)) or 0
    noticed = math.max(now, noticed + 1)
    redis.pcall('SET', keys.rollback, noticed, 'EX', options.failure_ttl)
    return { last, calls }
  end
end
