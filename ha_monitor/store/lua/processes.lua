-- The processes of workers, by which is found out what was lost.
--
-- @include clock tables trouble
-- @keys processes
-- @families heartbeats starts account

-- What is kept of a process: its heartbeats, its starts, and what losses.lua knows of it.
local function keys_of_process(process)
  return families.heartbeats .. process, families.starts .. process, families.account .. process
end

-- Enters what was heard of a process, or refuses a new one if the table is full of live ones; whether it is there now.
local function enter_process(process)
  if attempt('ZADD', keys.processes, now, process) ~= 1 then return true end
  if redis.call('ZCARD', keys.processes) <= MOST.processes then return true end
  refuse_entry('processes')
  local first = redis.call('ZRANGE', keys.processes, 0, 0, 'WITHSCORES')
  local gone = tonumber(first[2]) <= now - KEPT_FOR.silent_process and first[1] or process
  redis.call('ZREM', keys.processes, gone)
  redis.call('DEL', keys_of_process(gone))
  return gone ~= process
end
