-- What an open task is waiting for, or one that has ended and was sent or started again.
--
-- @include sender_clocks steps

local SENT_PHASE, RECEIVED_PHASE, STARTED_PHASE = 'sent', 'received', 'started'

-- The phase of a run that came after the ends of its task, and since when; nil if there is none. Then whether that is
-- certain, because one clock shows it: that of the worker that ended the task and has begun it again.
local function phase_after_end(facts)
  local started, received, again, ended = steps.after_end(facts)
  if started and (not received or started[1] >= received[1]) then
    return STARTED_PHASE, started[1], started[3]
  elseif received then
    local entry = facts.at[received[2]]
    return RECEIVED_PHASE, math.max(received[1], entry and entry[3] or -1), received[3]
  end
  local since = again or ended
  for _, entry in pairs(facts.at) do
    if entry[1] > ended then since = math.max(since, entry[1], entry[3]) end
  end
  if since > ended then return SENT_PHASE, since, false end
  return nil
end

-- The phase of an open task, and since when it could have left it, in µs: it cannot leave it before its eta. Nil if the
-- task is finished, or its phase is not known. The phases follow from the facts as the state does in record.py, except
-- that a task that was received again after its last start waits to be started.
local function phase_of(facts)
  if facts.tk ~= nil then
    if facts.at then return phase_after_end(facts) end
    return nil
  end
  local closed = (facts.xc or 0) + (facts.jc or 0)
  local started, received, due = facts.sl or -1, facts.rl or -1, facts.e or -1
  if (facts.sc or 0) > closed and started >= received then
    return STARTED_PHASE, started
  elseif (facts.rc or 0) > closed then
    return RECEIVED_PHASE, math.max(received, due)
  elseif (facts.sc or 0) > closed then
    return STARTED_PHASE, started
  elseif closed > 0 or facts.st then
    return SENT_PHASE, math.max(facts.st or -1, facts.xl or -1, received, started, due)
  end
  return nil
end

-- The same time by Redis's clock, whichever clocks gave it: a worker waits for an eta by its own clock.
local function since_by_store(facts, phase, since)
  local worker = phase ~= SENT_PHASE and facts.w
  local due = phase ~= STARTED_PHASE and facts.e or 0
  if facts.cm then
    return math.max(facts.cm * 1000, worker and due > 0 and sender_clocks.of_worker(worker, due) or due)
  end
  return worker and sender_clocks.of_worker(worker, since) or since
end

-- Identifies one stay in a phase.
local function stay_of(phase, since)
  return phase .. ' ' .. string.format('%.0f', since)
end
