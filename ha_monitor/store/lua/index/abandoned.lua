-- Tasks that may have been left by a worker that had them: those that another worker received or started while they
-- were not closed on the one before, and those that were open on a worker that was lost. '<bytes of the
-- nodename>:<nodename><task id>' -> when that was found, in ms since the epoch. So of a worker that is lost can be
-- told what became of its tasks, without looking at all records.
--
-- A task that was retried may be among them if its events came in another order: its record tells. The newest MOST
-- are kept, for KEPT.
--
-- @include clock pieces trouble work
-- @keys abandoned

local abandoned

do
  local MOST, SWEPT = 10000, 100 -- entries; of which one call sweeps
  local KEPT = 86400000 -- ms
  local entered = {}

  local function enter(worker, uuid)
    entered[#entered + 1] = string.format('%.0f', now)
    entered[#entered + 1] = #worker .. ':' .. worker .. uuid
    will_write(TO_WRITE.index)
  end

  -- A worker received or started a task that another one had, by a fact that is not merged yet.
  local function note(uuid, facts, fact)
    if fact[3] < math.max(facts.rl or 0, facts.sl or 0) then
      enter(fact[4], uuid) -- it came late: the other one has it
    elseif not facts.tk then
      local closed = (facts.xc or 0) + (facts.jc or 0)
      if (facts.rc or 0) > closed or (facts.sc or 0) > closed then enter(facts.w, uuid) end
    end
  end

  local function write()
    if #entered == 0 then return end
    in_pieces(entered, 2 * PUSH_AT_ONCE, function(...) attempt('ZADD', keys.abandoned, 'NX', ...) end)
    local over = (attempt('ZCARD', keys.abandoned) or 0) - MOST
    if over > 0 then attempt('ZREMRANGEBYRANK', keys.abandoned, 0, over - 1) end
  end

  -- Forgets some that were found long ago.
  local function sweep()
    local latest = string.format('%.0f', math.max(0, now - KEPT))
    local old = attempt('ZRANGEBYSCORE', keys.abandoned, '-inf', latest, 'LIMIT', 0, SWEPT) or {}
    in_pieces(old, PUSH_AT_ONCE, function(...) attempt('ZREM', keys.abandoned, ...) end)
  end

  abandoned = { enter = enter, note = note, write = write, sweep = sweep }
end
