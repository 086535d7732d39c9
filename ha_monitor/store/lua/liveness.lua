-- The state of a worker, computed only here: for the leader's duty, which stores and announces it, and for the script
-- that shows workers.
--
-- @include worker

local ONLINE, LATE, LOST, OFFLINE = 'online', 'late', 'lost', 'offline'

-- A number as text: Lua's own conversion would round a time in µs.
local function exact(number)
  return string.format('%.0f', number)
end

local function lost_text(at, heard_before, heard_again)
  return table.concat({ LOST, at, heard_before, heard_again }, ' ')
end

-- The stored state of a lost worker: its three texts, or nil.
local function read_lost(before)
  local at, heard_before, heard_again = string.match(before or '', '^lost (%S+) (%S+) (%S+)$')
  if tonumber(at) and tonumber(heard_before) and tonumber(heard_again) then return at, heard_before, heard_again end
  return nil
end

-- The state of a worker, the text that stores it, and, if the worker was just lost or has just recovered, the line
-- about that: {type, since when as a text, ms of silence}.
--
-- heard: when an instance last heard of the worker, in ms; before: the stored text; lost_after: ms of silence after
-- which it is lost, or nil if the caller may not declare another worker lost; late_after: ms of silence after which it
-- is late. The silence of a worker that sends no heartbeats means nothing: it may have no task.
local function state_of(record, heard, before, now, late_after, lost_after)
  local silent = math.max(0, now - heard)
  local beat, said = record.b and record.b[1] or -1, record.s and record.s[1] or -1
  local last = math.max(beat, said, record.t or -1)
  local lost_at, heard_before, heard_again = read_lost(before)
  -- A time in the future is from before Redis's clock was put back.
  if lost_at and tonumber(heard_before) > now then heard_before = exact(heard) end
  local change
  -- Its last task events may come after its worker-offline.
  local is_gone = said >= beat and record.s and record.s[4] == 'worker-offline'
  if is_gone and last - said <= late_after * 1000 then
    return OFFLINE, OFFLINE
  elseif lost_after and silent > lost_after and (lost_at or sends_heartbeats(record)) then
    if not lost_at then
      return LOST, lost_text(exact(last), exact(heard), 0), { 'worker-lost', exact(heard), math.floor(silent) }
    end
    return LOST, lost_text(lost_at, heard_before, 0)
  elseif lost_at then
    -- A worker recovers by what it sent after it was lost; what an instance held back meanwhile is no sign of life. Or
    -- because it goes on sending, since its clock may have been put back.
    local since = tonumber(heard_again)
    if since == 0 or since > now then since = heard end
    if last <= tonumber(lost_at) and heard - since < late_after then
      local sends = heard > tonumber(heard_before) and silent <= late_after
      return LOST, lost_text(lost_at, heard_before, sends and exact(since) or 0)
    end
    change = { 'worker-recovered', heard_before, since - tonumber(heard_before) }
  end
  local state = silent > late_after and LATE or ONLINE
  return state, state, change
end
