-- Which events can be announced, and which wait for missing facts.
--
-- @include generated/catalogue outbox runs work merge/producers

local is_complete, announce_complete
local MAX_WAITING = 32 -- announcements in one record; beyond that, some are announced with facts missing

do
  local MAX_WAITING_BYTES = 65536 -- the same in bytes
  local send_event = producers.send_event

  local function is_earlier(a, b)
    return a[3] < b[3]
  end

  -- Whether all facts that an announcement needs are there.
  function is_complete(facts, code, at, worker)
    local awaits = EVENTS.awaits[code]
    if awaits == 'nothing' then
      return true
    elseif facts.n == nil then
      return false
    elseif code == RETRIED then
      if facts.xc == nil or (facts.sc or 0) < facts.xc then return false end
    elseif awaits == 'all starts' then
      if (facts.sc or 0) <= (facts.re or 0) + (facts.jc or 0) then return false end
    elseif awaits == 'one start' then
      if (facts.sc or 0) == 0 then return false end
    end
    return runs.is_known(facts, code, at, worker, send_event)
  end

  -- Announces what is complete, and what is beyond the limits of waiting; returns what still waits. With a table
  -- `rest`, what is beyond the limits is put there instead.
  function announce_complete(announce, facts, facts_text, rest)
    if #announce == 0 then return announce end
    local still, bytes = {}, 0
    -- Each has a copy of the facts; its other bytes were already counted when this call read or received them.
    will_write(#announce * #facts_text / TO_WRITE.text)
    for index = 2, #announce do
      if announce[index][3] < announce[index - 1][3] then
        table.sort(announce, is_earlier)
        break
      end
    end
    for index = 1, #announce do
      local entry = announce[index]
      local complete = is_complete(facts, entry[2], entry[3], entry[5])
      local is_too_much = not complete and (#still >= MAX_WAITING or bytes + #entry[1] > MAX_WAITING_BYTES)
      if rest and is_too_much then
        rest[#rest + 1] = entry
      elseif complete or is_too_much then
        local text = runs.text(facts, facts_text, entry[2], entry[3], entry[5])
        put_event(entry[1], text, not complete or facts.n == nil, entry[4])
      else
        still[#still + 1] = entry
        bytes = bytes + #entry[1]
      end
    end
    return still
  end
end
