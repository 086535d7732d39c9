-- Which tasks' producers send task-sent. Only this event, which is optional, names a task's queue; where producers send
-- it, it is worth waiting for.
--
-- @include clock pieces stored tables trouble work
-- @keys producers

local producers

do
  local REMEMBERED = 86400 -- s for which producers are remembered
  local sends, noted = {}, {}

  -- A worker sends a retry, and may be configured differently from the producers.
  local function sender_of(name, is_retry)
    return is_retry and name .. '\31retry' or name
  end

  local function note(name, is_retry)
    local sender = sender_of(name, is_retry)
    if sends[sender] ~= true then
      sends[sender] = true
      noted[#noted + 1] = sender
      noted[#noted + 1] = math.floor(now / 1000)
      will_write(TO_WRITE.index)
    end
  end

  -- Whether to expect a task-sent for a task of this name.
  local function send_event(name, is_retry)
    local sender = sender_of(name, is_retry)
    if sends[sender] == nil then
      local last = stored_number(keys.producers, attempt('HGET', keys.producers, sender), (now + LATEST) / 1000)
      sends[sender] = last and now - last * 1000 < KEPT_FOR.producer or false
    end
    return sends[sender]
  end

  local function write()
    if #noted == 0 then return end
    if (attempt('HLEN', keys.producers) or 0) + #noted / 2 <= MAX_ENTRIES.producers then
      in_pieces(noted, 2 * PUSH_AT_ONCE, function(...) attempt('HSET', keys.producers, ...) end)
    else
      for index = 1, #noted, 2 do set_field('producers', keys.producers, noted[index], noted[index + 1]) end
    end
    attempt('EXPIRE', keys.producers, REMEMBERED)
  end

  producers = { note = note, send_event = send_event, write = write }
end
