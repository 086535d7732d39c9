-- How long the record of a task is kept: as long as events of it may come, and for a while after that.
--
-- A task that waits for its eta has events when the eta has come. If an open task does something for longer than
-- `failure_ttl`, its worker is asked (candidates.lua); while a worker has the task, its record lives on (confirm.lua).
--
-- @include clock generated/catalogue
-- @option success_ttl  s for which the record of a successful task is kept, and an event id that has its own key
-- @option failure_ttl  s for which the record of any other task is kept, and what is derived from events

local lifetime = {}

do
  local success_ttl, failure_ttl = options.success_ttl, options.failure_ttl
  local MAX_ETA_WAIT = 366 * 86400 -- s; an eta may name any year

  -- For how many s the record is kept from now on.
  function lifetime.of(facts)
    if facts.tk == SUCCEEDED then return success_ttl end
    if facts.tk == nil and facts.e and facts.e > now * 1000 then
      return failure_ttl + math.min(MAX_ETA_WAIT, math.ceil(facts.e / 1000000 - now / 1000))
    end
    return failure_ttl
  end

  -- In how many ms a worker must be asked for an open task, so that its record does not expire while the task runs.
  function lifetime.left(key)
    return math.max(0, redis.call('PTTL', key) - failure_ttl * 500)
  end

  -- The command that extends the life of the record of a task that a worker has; nil if that is not necessary.
  function lifetime.renewal(key)
    if redis.call('TTL', key) >= failure_ttl then return nil end
    return { 'EXPIRE', key, failure_ttl }
  end
end
