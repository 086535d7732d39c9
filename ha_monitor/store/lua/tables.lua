-- How large each table of the shared record may become: anybody who may publish can put names into events.
--
-- An entry that exists and is still heard of stays. A new entry is refused, or replaces one that was never confirmed or
-- has been silent for long. Refusals are counted; the leader logs a line about them and exports the count.
--
-- @include stored trouble
-- @keys refusals

local MAX_ENTRIES = {
  workers = 10000, -- nodenames, each with a record of some hundred bytes
  processes = 20000, -- a worker that restarts is another process
  producers = 10000, -- names of tasks
  baselines = 10000, -- names of tasks
  names = 2000, -- of tasks
  queues = 1000,
  open = 1000000, -- tasks that are not finished
  waits = 1000000, -- tasks that have not started
  -- For each process, what waits for losses.lua: a quarter of an hour of heartbeats, and the starts between some of
  -- them.
  heartbeats = 500,
  starts = 20000,
}
local BEAT_SIZE, START_SIZE = 32, 8 -- bytes

-- How long entries are kept, in ms.
local KEPT_FOR = {
  proof = 1000, -- time between the two signs of life that confirm a worker: one message has only one
  sign_of_life = 1000, -- how often a worker is noted that is heard of only by task events
  trial = 10000, -- a worker that was never confirmed, in a full table
  silent_young = 10000, -- a worker that was heard of for less than `youth` and has fallen silent, in a full table
  youth = 600000,
  unconfirmed = 3600000, -- a worker that was never confirmed, in any table
  silent_worker = 3600000, -- a worker that has fallen silent, in a full table
  silent_process = 60000, -- in a full table
  producer = 300000,
  silent_name = 3600000, -- in a full table
  refusals = 86400000,
}

local refusals = {}

local function refuse_entry(name, by)
  refusals[name] = (refusals[name] or 0) + (by or 1)
end

local function write_refusals()
  for name, by in pairs(refusals) do
    -- Not by HINCRBY, which stops at a value that is no integer.
    local before = stored_number(keys.refusals, attempt('HGET', keys.refusals, name)) or 0
    attempt('HSET', keys.refusals, name, string.format('%.0f', math.min(before + by, 2 ^ 53)))
    attempt('PEXPIRE', keys.refusals, KEPT_FOR.refusals)
  end
end

-- Sets a field of a hash with a limit; refuses a new field if there are too many.
local function set_field(name, key, field, value)
  if attempt('HSET', key, field, value) == 1 and redis.call('HLEN', key) > MAX_ENTRIES[name] then
    redis.call('HDEL', key, field)
    refuse_entry(name)
  end
end
