-- What the processes of workers say about the runs that they start, collected for losses.lua: of each process the times
-- of its task-started (a double each, in µs), and its heartbeats (four doubles each: time in µs, number of runs
-- started, when it was merged in ms, 1 if it is the last).
--
-- @include clock numbers pieces processes tables trouble work
-- @keys processes
-- @families starts heartbeats account
-- @option worker_ttl  how long the records of a worker are kept, in s

local activity

do
  local starts, beats = {}, {} -- <nodename>\31<pid> -> {text, …}
  local starts_of = {} -- nodename -> pid -> the process's entry in `starts`, because building its name is the slow part
  local unwelcome = {} -- nodename -> true if there was no room for it

  local function append(texts, worker, pid, text)
    local process = worker .. '\31' .. string.format('%.0f', pid)
    local known = texts[process]
    if known then
      known[#known + 1] = text
    else
      known = { text, worker = worker }
      texts[process] = known
      will_write(TO_WRITE.process)
    end
    return known
  end

  local function start(worker, pid, at)
    local of_worker = starts_of[worker]
    if not of_worker then
      of_worker = {}
      starts_of[worker] = of_worker
    end
    local known = of_worker[pid]
    if known then
      known[#known + 1] = struct.pack('>d', at)
    else
      of_worker[pid] = append(starts, worker, whole(pid, 2 ^ 32), struct.pack('>d', at))
    end
  end

  local function heartbeat(worker, pid, at, processed, is_last)
    append(beats, worker, pid, struct.pack('>dddd', at, processed, now, is_last and 1 or 0))
  end

  -- Keeps nothing of this worker's processes, because there is no room for it.
  local function refuse(worker)
    unwelcome[worker] = true
  end

  local function write(family, texts, table_name, size)
    if next(texts) == nil then return end
    local heard_of, count = {}, 0
    for _ in pairs(texts) do count = count + 1 end
    local any_room = (attempt('ZCARD', keys.processes) or 0) + count <= MAX_ENTRIES.processes
    for process, pieces in pairs(texts) do
      if not unwelcome[pieces.worker] and (any_room or enter_process(process)) then
        local key = family .. process
        local length = attempt('APPEND', key, table.concat(pieces))
        attempt('EXPIRE', key, options.worker_ttl)
        if not length or length > MAX_ENTRIES[table_name] * size then
          -- The rest is useless with some of them missing, so the account of the process starts again. A process that
          -- sends no heartbeats has no account.
          local has_account = length and attempt('EXISTS', families.heartbeats .. process, families.account .. process)
          if has_account and has_account > 0 then refuse_entry(table_name, length / size) end
          redis.call('DEL', keys_of_process(process))
        end
        heard_of[#heard_of + 1] = now
        heard_of[#heard_of + 1] = process
      end
    end
    in_pieces(heard_of, 2 * PUSH_AT_ONCE, function(...) attempt('ZADD', keys.processes, ...) end)
  end

  local function write_all()
    write(families.starts, starts, 'starts', START_SIZE)
    write(families.heartbeats, beats, 'heartbeats', BEAT_SIZE)
  end

  activity = { start = start, heartbeat = heartbeat, refuse = refuse, write = write_all }
end
