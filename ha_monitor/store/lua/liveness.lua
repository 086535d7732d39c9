-- What a worker is, worked out here alone: for the leader's duty, which keeps and announces it, and for the script that
-- shows workers to anybody.
--
-- @include worker

local ONLINE, LATE, LOST, OFFLINE = 'online', 'late', 'lost', 'offline'

-- Numbers as texts: Lua would round a time in µs when it makes one.
local function exact(number)
  return string.format('%.0f', number)
end

local function lost_text(at, heard_before, heard_again)
  return table.concat({ LOST, at, heard_before, heard_again }, ' ')
end

-- Since when a worker is lost, as it was kept: the texts and their numbers, or nil.
local function read_lost(before)
  local at, heard_before, heard_again = string.match(before or '', '^lost (%S+) (%S+) (%S+)$')
  if tonumber(at) and tonumber(heard_before) and tonumber(heard_again) then return at, heard_before, heard_again end
  return nil
end

-- What a worker is, how that is kept, and, if it was just lost or has just recovered, the line about that: {type, since
-- when as a text, ms for which nothing was heard}.
--
-- heard: when an instance last heard of it, ms; before: how it was kept. lost_after: ms of silence after which it is
-- lost, or nil if the caller may not say so of one that was not lost before; late_after: ms, too. The silence of a
-- worker that sends no heartbeats tells nothing: it may have no task.
local function state_of(record, heard, before, now, late_after, lost_after)
  local silent = math.max(0, now - heard)
  local beat, said = record.b and record.b[1] or -1, record.s and record.s[1] or -1
  local last = math.max(beat, said, record.t or -1)
  local lost_at, heard_before, heard_again = read_lost(before)
  -- What is still to come is from before Redis's clock was put back.
  if lost_at and tonumber(heard_before) > now then heard_before = exact(heard) end
  local change
  -- What it had to say of its tasks may come behind its goodbye.
  local is_gone = said >= beat and record.s and record.s[4] == 'worker-offline'
  if is_gone and last - said <= late_after * 1000 then
    return OFFLINE, OFFLINE
  elseif lost_after and silent > lost_after and (lost_at or sends_heartbeats(record)) then
    if not lost_at then
      return LOST, lost_text(exact(last), exact(heard), 0), { 'worker-lost', exact(heard), math.floor(silent) }
    end
    return LOST, lost_text(lost_at, heard_before, 0)
  elseif lost_at then
    -- By what it sent after it was lost; what an instance held back meanwhile is no sign of life. Or, since its clock
    -- may have been put back, because it goes on sending.
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
