-- How large each table of the shared record may become: names in events come from anybody who may publish. Put behind
-- record.lua, in front of the scripts that fill tables or tidy them up.
--
-- What is there and is heard of stays; a newcomer is refused, or takes the place of what was never confirmed or has
-- been
-- silent for long. How many were turned away is counted in a hash, `turned-away`: table -> how many, forgotten after a
-- day without one. The leader says so in a line, and exports it.

local MOST = {
  workers = 10000, -- nodenames, each with a record of some hundred bytes
  processes = 20000, -- a worker that starts again is another process
  producers = 10000, -- names of tasks
  usual = 10000, -- names of tasks
  queues = 1000,
  open = 1000000, -- tasks that are not finished
  -- Of each process, what waits to be looked at by losses.lua: a quarter of an hour of heartbeats, and the starts
  -- between some of them.
  heartbeats = 500,
  starts = 20000,
}
local BEAT_SIZE, START_SIZE = 32, 8 -- bytes

-- How long what is kept, in ms.
local KEPT_FOR = {
  proof = 1000, -- between two words that prove a worker: one message has only one
  trial = 10000, -- a worker that was never confirmed, in a full table
  silent_young = 10000, -- a worker that has not been heard of for as long as `youth`, in a full table
  youth = 600000,
  newcomer = 3600000, -- the same in any case
  silent_worker = 3600000, -- in a full table
  silent_process = 60000, -- in a full table
  producer = 300000,
  turned_away = 86400000,
}

local turned_away = {}

local function turn_away(name, by)
  turned_away[name] = (turned_away[name] or 0) + (by or 1)
end

local function write_turned_away(key)
  for name, by in pairs(turned_away) do
    attempt('HINCRBY', key, name, by)
    attempt('PEXPIRE', key, KEPT_FOR.turned_away)
  end
end

-- keys: {workers = …, newcomers = …, young = …, liveness = …}
local function forget_worker(keys, prefix, name)
  redis.call('ZREM', keys.workers, name)
  redis.call('ZREM', keys.newcomers, name)
  redis.call('ZREM', keys.young, name)
  redis.call('HDEL', keys.liveness, name)
  redis.call('DEL', prefix .. 'w:' .. name)
end

local workers_full = false

-- Forgets the worker that has proven itself least, if any may go: one that was never confirmed, then one that has fallen
-- silent after a short life, then one that has been silent for long. Whether one did.
local function make_room(keys, prefix, now)
  local candidates = {
    { keys.newcomers, KEPT_FOR.trial }, { keys.young, KEPT_FOR.silent_young }, { keys.workers, KEPT_FOR.silent_worker },
  }
  for _, candidate in ipairs(candidates) do
    local first = redis.call('ZRANGE', candidate[1], 0, 0, 'WITHSCORES')
    if first[2] and tonumber(first[2]) <= now - candidate[2] then
      forget_worker(keys, prefix, first[1])
      return true
    end
  end
  return false
end

-- Takes in a worker that was not heard of before; whether there is room for it.
local function admit_worker(keys, prefix, name, now)
  if workers_full or redis.call('ZCARD', keys.workers) >= MOST.workers then
    turn_away('workers')
    workers_full = workers_full or not make_room(keys, prefix, now)
    if workers_full then return false end
  end
  redis.call('ZADD', keys.newcomers, now, name)
  redis.call('ZADD', keys.workers, now, name)
  return true
end

-- What is kept of a process: its heartbeats, its starts, and what losses.lua knows of it.
local function keys_of_process(prefix, process)
  return prefix .. 'b:' .. process, prefix .. 'p:' .. process, prefix .. 'l:' .. process
end

-- Enters what was heard of a process, or refuses a new one if the table is full of live ones; whether it is there now.
local function enter_process(key, prefix, process, now)
  if attempt('ZADD', key, now, process) ~= 1 or redis.call('ZCARD', key) <= MOST.processes then return true end
  turn_away('processes')
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  local gone = tonumber(first[2]) <= now - KEPT_FOR.silent_process and first[1] or process
  redis.call('ZREM', key, gone)
  redis.call('DEL', keys_of_process(prefix, gone))
  return gone ~= process
end

-- Sets the field of a hash with a limit; a new field is refused if there are too many.
local function set_field(name, key, field, value)
  if attempt('HSET', key, field, value) == 1 and redis.call('HLEN', key) > MOST[name] then
    redis.call('HDEL', key, field)
    turn_away(name)
  end
end
