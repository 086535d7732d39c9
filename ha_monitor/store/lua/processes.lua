-- The processes of workers, by which lost events are detected.
--
-- @include clock tables trouble
-- @keys processes
-- @families heartbeats starts account

-- The keys of a process: its heartbeats, its starts, and its account in losses.lua.
local function keys_of_process(process)
  return families.heartbeats .. process, families.starts .. process, families.account .. process
end

-- Adds or refreshes a process; refuses a new one if the table is full of live ones. Returns whether it is in the table.
local function enter_process(process)
  if attempt('ZADD', keys.processes, now, process) ~= 1 then return true end
  if redis.call('ZCARD', keys.processes) <= MAX_ENTRIES.processes then return true end
  refuse_entry('processes')
  local first = redis.call('ZRANGE', keys.processes, 0, 0, 'WITHSCORES')
  local gone = tonumber(first[2]) <= now - KEPT_FOR.silent_process and first[1] or process
  redis.call('ZREM', keys.processes, gone)
  redis.call('DEL', keys_of_process(gone))
  return gone ~= process
end
