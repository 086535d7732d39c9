-- Limits the work of one call. Redis serves nobody else meanwhile, so a call with much to do ends early: every loop
-- over records asks `is_enough` before each record but its first, or `is_full` if it counts its own steps. The rest is
-- left to the next call.
--
-- @include clock

-- What each write costs, as the number of average records whose writing takes as long.
local TO_WRITE = {
  process = 2,
  index = 0.5,
  name = 1.5,
  group = 5,
  -- Long texts cost more, since they are copied several times: the number of bytes that take as long as a record.
  text = 2048,
  labels = 512, -- bytes of the labels of a count
}

local has_loaded, will_write, writes_enough, is_full, is_enough

do
  -- A call ends once it has read so many bytes of records, has so much to write, or has worked for so many ms. The time
  -- is looked at after so many steps or bytes read. Between two looks, at most a_look ms are counted for each such
  -- portion, which is more than it takes: time beyond that is time in which Redis did not run, on a busy machine. If a
  -- call ended because of it, one call would become many, each of which may be interrupted again.
  local A_CALL = { loaded = 2 ^ 20, to_write = 500, work = 6, steps_a_look = 32, bytes_a_look = 65536, a_look = 1 }
  local loaded = 0 -- bytes of values that this call has read
  local to_write = 0 -- what this call will write once everything is computed, in average records

  function has_loaded(bytes)
    loaded = loaded + bytes
  end

  function will_write(records)
    to_write = to_write + records
  end

  -- Whether this call has as much to write as one call may.
  function writes_enough()
    return to_write >= A_CALL.to_write
  end

  -- Whether this call has read, or has to write, as much as one call may. share: the fraction of that for one of
  -- several parts of the call that each need their turn; nil for all of it.
  function is_full(share)
    share = share or 1
    return loaded > A_CALL.loaded * share or to_write > A_CALL.to_write * share
  end

  local steps, steps_at_look, loaded_at_look = 0, 0, 0
  local worked, looked_at = 0, now

  -- Whether this call has done enough. done: steps (events or records) since it was last asked.
  function is_enough(done)
    steps = steps + done
    if loaded > A_CALL.loaded or to_write > A_CALL.to_write then return true end
    if steps < steps_at_look + A_CALL.steps_a_look and loaded < loaded_at_look + A_CALL.bytes_a_look then
      return false
    end
    local by_steps = (steps - steps_at_look) / A_CALL.steps_a_look
    local by_bytes = (loaded - loaded_at_look) / A_CALL.bytes_a_look
    local looked = now_ms()
    worked = worked + math.min(looked - looked_at, math.max(by_steps, by_bytes) * A_CALL.a_look)
    steps_at_look, loaded_at_look, looked_at = steps, loaded, looked
    return worked >= A_CALL.work
  end
end
