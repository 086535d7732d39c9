-- Which events can be counted, and which wait for missing facts.
--
-- @include clock counting generated/catalogue merge/announce merge/producers

local count_events

do
  local send_event = producers.send_event
  local NONE = {}

  -- Counts the events whose labels are known, or all if too many wait; returns those that still wait.
  -- uncounted: those that have waited, or nil; fresh: the new ones, of which only the first `fresh_size` are valid.
  function count_events(facts, uncounted, fresh, fresh_size)
    if not uncounted and fresh_size == 0 then return uncounted end
    -- In a task with a single run, if the labels of one event are known, those of all are.
    if facts.n and not facts.at and (facts.q or not send_event(facts.n, false)) then
      for _, entry in ipairs(uncounted or NONE) do count_waiting(facts, entry) end
      count_run(facts, fresh, fresh_size)
      return nil
    end
    local all = #(uncounted or NONE) + fresh_size > MAX_WAITING
    local still = {}
    local function may_count(code, at, worker)
      if all then
        return true
      elseif code == WAIT then
        return is_complete(facts, STARTED, at, worker)
      end
      return is_countable(facts, code, at, worker, send_event)
    end
    for _, entry in ipairs(uncounted or NONE) do
      if may_count(entry[1], entry[2], entry[3]) then
        count_waiting(facts, entry)
      else
        still[#still + 1] = entry
      end
    end
    for index = 1, fresh_size do
      local fact = fresh[index]
      local code, at, worker = fact[2], fact[3], fact[4]
      if may_count(code, at, worker) then
        count_event(facts, code, at, worker, code == FAILED and fact[7] or fact[6])
      else
        local extra = code == FAILED and fact[7] or code == SUCCEEDED and fact[6] or false
        still[#still + 1] = { code, at, worker, extra, now }
      end
      if code == STARTED then
        if may_count(WAIT, at, worker) then
          count_wait(facts, at, worker)
        else
          still[#still + 1] = { WAIT, at, worker, false, now }
        end
      end
    end
    return still
  end
end
