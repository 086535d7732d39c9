-- How much one call does. Redis serves nobody else meanwhile, so a call that was given much ends early: every loop over
-- records asks `is_enough` before each but its first, or `is_full` where it counts its steps, and what is left is for
-- the next call.
--
-- @include clock

-- What is written, as a number of records of average size that take as long.
local TO_WRITE = {
  process = 2,
  index = 0.5,
  name = 1.5,
  group = 5,
  -- Long texts take longer, since they are copied several times: bytes of them that take as long as a record.
  text = 2048,
  labels = 512, -- of a count
}

local has_loaded, will_write, writes_enough, is_full, is_enough

do
  -- A call does no more once it has read so many bytes of records, has so much to write, or has worked for so many ms,
  -- which is looked at after so many steps or so many bytes read. Of these, a_look ms count at most, which is more than
  -- they take: what is beyond that is time in which Redis did not run, on a busy machine. A call that ended for that
  -- would make many of one, each of which may be interrupted again.
  local A_CALL = { loaded = 2 ^ 20, to_write = 500, work = 6, steps_a_look = 32, bytes_a_look = 65536, a_look = 1 }
  local loaded = 0 -- bytes of values that this call has read
  local to_write = 0 -- what this call will write when all is computed, as above

  function has_loaded(bytes)
    loaded = loaded + bytes
  end

  function will_write(records)
    to_write = to_write + records
  end

  -- Whether this call has as much to write as one may.
  function writes_enough()
    return to_write >= A_CALL.to_write
  end

  -- Whether this call has read, or has to write, as much as one may. share: of that, for one of several parts of the
  -- call that each want their turn; nil for all.
  function is_full(share)
    share = share or 1
    return loaded > A_CALL.loaded * share or to_write > A_CALL.to_write * share
  end

  local steps, steps_at_look, loaded_at_look = 0, 0, 0
  local worked, looked_at = 0, now

  -- Whether this call has done enough. done: steps since it was asked last: events, or records.
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
