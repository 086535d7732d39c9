-- How many runs ended on each worker, and how many of them failed, by minute. Counted in the call that merges the
-- events, so that each event counts once.
--
-- A hash for each ten minutes since the epoch has a field for each worker: two numbers of four bytes for each of these
-- minutes, the runs that ended (succeeded, failed, retried) and those that failed. So a worker that is gone takes no
-- memory once its last hash has expired. The hashes are kept for an hour, for as many workers as fit into the table of
-- workers. An invalid time, and one in the future, count as now.
--
-- @include clock pieces tables trouble work
-- @families worker_runs

local worker_runs

do
  local KEPT, TEN = 3600000000, 10 -- µs; minutes
  local LIVES_FOR = 5400 -- s
  local MINUTE, FORMAT, SIZE = 60000000, '>I4I4', 8
  local MAX_RUNS = 2 ^ 32 - 1
  local NONE = string.rep('\0', TEN * SIZE)
  local floor = math.floor
  local latest = now * 1000
  local earliest = latest - KEPT
  local cells = {} -- ten minutes since the epoch -> worker -> minute of these -> {ended, failed}
  local last_worker, last_from, last_to, last_cell -- the latest cell and its minute, since the next is often the same

  local function inner(outer, key)
    local found = outer[key]
    if not found then
      found = {}
      outer[key] = found
    end
    return found
  end

  local function cell_of(worker, at)
    if at <= 0 or at > latest then at = latest end
    local minute = floor(at / MINUTE)
    local minutes = inner(inner(cells, floor(minute / TEN)), worker)
    local cell = minutes[minute % TEN]
    if not cell then
      cell = { 0, 0 }
      minutes[minute % TEN] = cell
      will_write(TO_WRITE.index)
    end
    last_worker, last_from, last_to, last_cell = worker, minute * MINUTE, (minute + 1) * MINUTE, cell
    return cell
  end

  -- A run ended on a worker, at a time in µs.
  local function note(worker, at, has_failed)
    if (at > 0 and at < earliest) or worker == '' then return end
    local cell = last_cell
    if worker ~= last_worker or at < last_from or at >= last_to or at > latest then cell = cell_of(worker, at) end
    cell[1] = cell[1] + 1
    if has_failed then cell[2] = cell[2] + 1 end
  end

  local function with_more(text, minutes)
    if not text or #text ~= TEN * SIZE then text = NONE end
    for minute, more in pairs(minutes) do
      local place = minute * SIZE
      local ended, failed = struct.unpack(FORMAT, text, place + 1)
      local cell = struct.pack(FORMAT, math.min(ended + more[1], MAX_RUNS), math.min(failed + more[2], MAX_RUNS))
      text = string.sub(text, 1, place) .. cell .. string.sub(text, place + SIZE + 1)
    end
    return text
  end

  -- The fields of some workers. A key that is not a hash is useless, and is deleted.
  local function texts_of(key, ...)
    local reply = redis.pcall('HMGET', key, ...)
    if not reply.err then return reply end
    refused(key, reply.err)
    if string.sub(reply.err, 1, 9) == 'WRONGTYPE' then attempt('DEL', key) end
    return {}
  end

  local function write_ten(ten, workers)
    local key = families.worker_runs .. string.format('%d', ten)
    local names, room = {}, nil
    for name in pairs(workers) do names[#names + 1] = name end
    for first = 1, #names, PUSH_AT_ONCE do
      local last, after = math.min(first + PUSH_AT_ONCE - 1, #names), {}
      local before = texts_of(key, unpack(names, first, last))
      for index = first, last do
        local name, text = names[index], before[index - first + 1]
        if not text then
          room = (room or MAX_ENTRIES.workers - (attempt('HLEN', key) or 0)) - 1
        end
        if text or room >= 0 then
          after[#after + 1] = name
          after[#after + 1] = with_more(text, workers[name])
        end
      end
      if #after > 0 then attempt('HSET', key, unpack(after)) end
    end
    if room then attempt('EXPIRE', key, LIVES_FOR) end
  end

  -- Writes the counts, after the records.
  local function write()
    for ten, workers in pairs(cells) do write_ten(ten, workers) end
  end

  worker_runs = { note = note, write = write }
end
