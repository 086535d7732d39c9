-- Tasks that ended without success, and those that were orphaned, by time: task id -> ms since the epoch times 16, plus
-- the code of the end, or of the phase in which the task was orphaned. So listing them reads no record. The oldest are
-- removed first.
--
-- @include clock generated/catalogue phases pieces trouble work
-- @keys ended_badly
-- @options failure_ttl

local ended_badly

do
  local MAX_ENDED, SWEPT = 100000, 100 -- entries; entries that one call sweeps
  local ORPHANED = { [SENT_PHASE] = 11, [RECEIVED_PHASE] = 12, [STARTED_PHASE] = 13 }
  local entered, left = {}, {}

  -- A time in the future comes from a clock that is ahead, and would stay in the index for ever.
  local function score_of(at, code)
    at = at > 0 and math.min(math.floor(at / 1000), now) or now
    return string.format('%.0f', at * 16 + code)
  end

  local function enter(uuid, at, code)
    entered[#entered + 1] = score_of(at, code)
    entered[#entered + 1] = uuid
    will_write(TO_WRITE.index)
  end

  local function note_orphan(uuid, phase)
    enter(uuid, 0, ORPHANED[phase])
  end

  -- A task's end has changed, or it is no longer orphaned.
  local function note(uuid, facts)
    if facts.tk ~= nil and facts.tk ~= SUCCEEDED then
      enter(uuid, facts.tt, facts.tk)
    else
      left[#left + 1] = uuid
    end
  end

  local function write()
    in_pieces(left, PUSH_AT_ONCE, function(...) attempt('ZREM', keys.ended_badly, ...) end)
    if #entered == 0 then return end
    in_pieces(entered, 2 * PUSH_AT_ONCE, function(...) attempt('ZADD', keys.ended_badly, ...) end)
    local over = (attempt('ZCARD', keys.ended_badly) or 0) - MAX_ENDED
    if over > 0 then redis.call('ZREMRANGEBYRANK', keys.ended_badly, 0, over - 1) end
  end

  -- Deletes some entries whose records have expired.
  local function sweep()
    local latest = string.format('%.0f', math.max(0, now - options.failure_ttl * 1000) * 16)
    local old = attempt('ZRANGEBYSCORE', keys.ended_badly, '-inf', latest, 'LIMIT', 0, SWEPT) or {}
    in_pieces(old, PUSH_AT_ONCE, function(...) redis.call('ZREM', keys.ended_badly, ...) end)
  end

  ended_badly = { note = note, note_orphan = note_orphan, write = write, sweep = sweep }
end
