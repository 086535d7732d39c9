-- Whether the clock that gave a time is right, as far as Redis's clock shows when the event is merged. Later this could
-- no longer be found out, so it is kept in the record of the task, but only for events of wrong clocks:
--   ck  of the times from which a wait is computed (sent, started): {time in µs} or, if it is known, {time, ms by which
--       its clock is behind (negative: ahead)}
--   cm  the latest step of the task in ms by Redis's clock, as far as it is known
--
-- A clock is proven wrong by WRONG_CLOCK ms or more: no event comes from the future, and none was sent before
-- `caught_up`. So for right clocks nothing depends on when their events are merged. By how much a clock is wrong is
-- known for workers if the leader has measured it (watch.lua), and so for other senders on their hosts.
--
-- @include clock generated/catalogue skew stored trouble
-- @keys skewed caught_up

local sender_clocks = {}

do
  local MAX_KEPT, MAX_HOSTS = 64, 100
  local STEPS = { [SENT] = true, [RECEIVED] = true, [STARTED] = true, [RETRIED] = true, [REQUEUED] = true }
  -- The range in µs in which an event that is merged now may have been sent; nil until it is needed.
  local earliest, latest
  local is_any_known, hosts
  local skews = {} -- nodename -> as known_skew; false where that is nil

  -- The range of times of events that need no `note`; an empty range if each event needs it, since some clocks are
  -- known to be wrong.
  function sender_clocks.begin()
    local caught_up = stored_time(keys.caught_up, attempt('GET', keys.caught_up)) or 0
    earliest = math.max(0, math.min(now, caught_up) - WRONG_CLOCK) * 1000
    latest = (now + WRONG_CLOCK) * 1000
    is_any_known = attempt('EXISTS', keys.skewed) == 1
    if is_any_known then return math.huge, -math.huge end
    return earliest, latest
  end

  local function is_possible(at)
    return at >= earliest and at <= latest
  end

  local function any_known()
    if is_any_known == nil then is_any_known = attempt('EXISTS', keys.skewed) == 1 end
    return is_any_known
  end

  local function skew_of_worker(name)
    if not any_known() then return nil end
    if skews[name] == nil then skews[name] = known_skew(name) or false end
    return skews[name] or nil
  end

  -- The host in a nodename. A producer's, or a sending worker's, has a process id before it.
  local function host_of(name)
    return string.match(name, '@(.+)$')
  end

  -- By how many ms the clock of a sender's host is behind, judged by its workers; nil if that is not known.
  local function skew_of_host(name)
    if not any_known() then return nil end
    if hosts == nil then
      hosts = {}
      local known = (attempt('HLEN', keys.skewed) or math.huge) <= MAX_HOSTS and attempt('HKEYS', keys.skewed) or {}
      for _, worker in ipairs(known) do
        local host = host_of(worker)
        local skew = host and skew_of_worker(worker)
        if skew then
          local other = hosts[host]
          local is_other = other ~= nil and not (other and math.abs(other - skew) < WRONG_CLOCK)
          hosts[host] = not is_other and skew
        end
      end
    end
    return hosts[host_of(name)] or nil
  end

  -- By how many ms the clock that gave a time is behind, or nil; and whether it is wrong.
  local function judged(code, sender, at)
    local skew
    if code == SENT then
      -- Another program on that host may use another clock, so a time that may be right is taken as right.
      if math.abs(at - now * 1000) <= WRONG_CLOCK * 1000 then return nil, false end
      skew = skew_of_host(sender)
    else
      skew = skew_of_worker(sender)
    end
    -- The clock may have been corrected since the leader measured it.
    if skew and is_possible(at + skew * 1000) then return skew, true end
    return nil, not is_possible(at)
  end

  local function keep(facts, at, skew)
    local kept = facts.ck or {}
    facts.ck = kept
    local place = #kept + 1
    while place > 1 and kept[place - 1][1] >= at do
      place = place - 1
      if kept[place][1] == at then
        if kept[place][2] ~= skew then kept[place][2] = nil end
        return
      end
    end
    table.insert(kept, place, { at, skew })
    if #kept > MAX_KEPT then table.remove(kept, 1) end
  end

  -- Notes what a new event shows about its clock. To be called for each event outside the range of `begin`, and for
  -- each event of a task that has `cm`. Returns the event's time in µs by Redis's clock, if the sender's is wrong.
  function sender_clocks.note(facts, fact)
    local code, at = fact[2], fact[3]
    if not STEPS[code] or at == 0 then return end
    local skew, is_wrong = judged(code, fact[4], at)
    if is_wrong and (code == SENT or code == STARTED) then keep(facts, at, skew) end
    if is_wrong or facts.cm then
      local by_store = is_wrong and not skew and now or math.floor(at / 1000) + (skew or 0)
      facts.cm = math.max(facts.cm or 0, by_store)
      return is_wrong and by_store * 1000 or nil
    end
    return nil
  end

  -- The time in µs at which a task was sent or started, by Redis's clock; nil if it is not known.
  local function by_store(facts, at)
    for _, entry in ipairs(facts.ck or {}) do
      if entry[1] == at then return entry[2] and at + entry[2] * 1000 end
    end
    return at
  end

  -- When a task last came into its queue, in µs by Redis's clock. After a retry, and if the sender's clock is wrong by
  -- an unknown amount, this is the time of its latest step. For a task with `cm` that was sent. As in record.py.
  function sender_clocks.queued_at(facts)
    return not facts.xl and by_store(facts, facts.st) or facts.cm * 1000
  end

  -- The time in µs from when a task could have started to its start; nil if a clock is wrong by an unknown amount. For
  -- a task with `ck`. All times as in the record; an eta is used as it is, whichever clock it came from.
  function sender_clocks.wait(facts, started, sent, received, due)
    local begun = by_store(facts, started)
    if sent then
      local available = by_store(facts, sent)
      return begun and available and begun - math.max(available, due)
    elseif begun then
      -- The worker that received it has also started it.
      return begun - math.max(received + begun - started, due)
    end
    return due == 0 and started - received or nil
  end

  -- A time in µs from a worker's clock, converted to Redis's clock.
  function sender_clocks.of_worker(name, at)
    return at + (skew_of_worker(name) or 0) * 1000
  end
end
