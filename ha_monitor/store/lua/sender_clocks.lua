-- Whether the clock that gave a time is right, as far as Redis's clock shows it when the event is merged. Later nobody
-- could tell, so what was found is kept in the record of the task, for events of wrong clocks alone:
--   ck  of those that a wait is made of (sent, started): {time in µs} or, where it is known, {time, ms by which its
--       clock is behind (negative: ahead)}
--   cm  the latest step of the task in ms by Redis's clock, as far as that is known
--
-- What proves that a clock is wrong, by WRONG_CLOCK ms at least: nothing comes from the future, and nothing was sent
-- before `caught_up`. So of events of right clocks nothing depends on when they are merged. By how much it is
-- wrong is known of workers, if the leader has found it (watch.lua), and of what else runs on their hosts.
--
-- @include clock generated/catalogue skew stored trouble
-- @keys skewed caught_up

local sender_clocks = {}

do
  local MOST_KEPT, MOST_HOSTS = 64, 100
  local STEPS = { [SENT] = true, [RECEIVED] = true, [STARTED] = true, [RETRIED] = true, [REQUEUED] = true }
  -- Times in µs between which an event can have come that is merged now; nil until they are needed.
  local earliest, latest
  local is_any_known, hosts
  local skews = {} -- nodename -> as known_skew; false where that is nil

  -- Between which times an event is to be merged without `note`; two that are none if each is to be noted, since some
  -- clocks are known to be wrong.
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

  -- The part of a nodename that names the host. That of a producer, or of a worker that sends, has a process id before.
  local function host_of(name)
    return string.match(name, '@(.+)$')
  end

  -- By how many ms the clock of a sender's host is behind, as the workers there show; nil if that is not known.
  local function skew_of_host(name)
    if not any_known() then return nil end
    if hosts == nil then
      hosts = {}
      local known = (attempt('HLEN', keys.skewed) or math.huge) <= MOST_HOSTS and attempt('HKEYS', keys.skewed) or {}
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
      -- Another program of that host may have another clock, so what may be right is.
      if math.abs(at - now * 1000) <= WRONG_CLOCK * 1000 then return nil, false end
      skew = skew_of_host(sender)
    else
      skew = skew_of_worker(sender)
    end
    -- It may have been put right since then.
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
    if #kept > MOST_KEPT then table.remove(kept, 1) end
  end

  -- Notes what shows now of the clock of a new event. To be called of each of a task that has `cm`, and of those that
  -- `begin` says. Returns the event's time in µs by Redis's clock, if that of its sender is wrong.
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

  -- A time in µs of a task that was sent or started, by Redis's clock; nil if nobody knows it.
  local function by_store(facts, at)
    for _, entry in ipairs(facts.ck or {}) do
      if entry[1] == at then return entry[2] and at + entry[2] * 1000 end
    end
    return at
  end

  -- When a task that was sent came into its queue last, in µs by Redis's clock: its latest step says it after a retry,
  -- and where nobody knows by how much the sender's clock is wrong. Of a task with `cm`. As in record.py.
  function sender_clocks.queued_at(facts)
    return not facts.xl and by_store(facts, facts.st) or facts.cm * 1000
  end

  -- From when a task could have been started to its start, in µs; nil if a clock is wrong, and not known by how much.
  -- Of a task with `ck`. All as in the record; an eta is what it is, whose clock ever it was made of.
  function sender_clocks.wait(facts, started, sent, received, due)
    local begun = by_store(facts, started)
    if sent then
      local available = by_store(facts, sent)
      return begun and available and begun - math.max(available, due)
    elseif begun then
      -- The worker that received it has started it.
      return begun - math.max(received + begun - started, due)
    end
    return due == 0 and started - received or nil
  end

  -- A time in µs that a worker gave, by Redis's clock.
  function sender_clocks.of_worker(name, at)
    return at + (skew_of_worker(name) or 0) * 1000
  end
end
