-- For how long the record of a task is kept: as long as something may still be heard of it, and for a while after.
--
-- A task that waits for its eta is heard of when that has come. What an open task does for longer than `failure_ttl`,
-- its worker is asked for (candidates.lua), and while a worker has it, its record lives on (confirm.lua).
--
-- @include clock generated/catalogue
-- @option success_ttl  s for which the record of a task that succeeded is kept, and an id of an event in its own key
-- @option failure_ttl  s for which that of any other is kept, and what is derived from events

local lifetime = {}

do
  local success_ttl, failure_ttl = options.success_ttl, options.failure_ttl
  local LONGEST_WAIT = 366 * 86400 -- s; an eta may name any year

  -- How many s from now on.
  function lifetime.of(facts)
    if facts.tk == SUCCEEDED then return success_ttl end
    if facts.tk == nil and facts.e and facts.e > now * 1000 then
      return failure_ttl + math.min(LONGEST_WAIT, math.ceil(facts.e / 1000000 - now / 1000))
    end
    return failure_ttl
  end

  -- How many ms are left until a worker is to be asked for an open task, lest its record expire while the task runs.
  function lifetime.left(key)
    return math.max(0, redis.call('PTTL', key) - failure_ttl * 500)
  end

  -- The command that lets the record of a task live on that a worker has; nil if it does so anyway.
  function lifetime.renewal(key)
    if redis.call('TTL', key) >= failure_ttl then return nil end
    return { 'EXPIRE', key, failure_ttl }
  end
end
