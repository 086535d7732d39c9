-- What an open task waits for.

local SENT_PHASE, RECEIVED_PHASE, STARTED_PHASE = 'sent', 'received', 'started'

-- The phase of an open task, and since when it could have left it, in µs: before its eta it cannot. Nil if it is
-- finished, or if nothing tells where it is. The phases follow from the facts as record.py derives the state, but a
-- task that was received once more after its last start waits to be started.
local function phase_of(facts)
  if facts.tk ~= nil then
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

-- What tells one stay in a phase from another.
local function stay_of(phase, since)
  return phase .. ' ' .. string.format('%.0f', since)
end
