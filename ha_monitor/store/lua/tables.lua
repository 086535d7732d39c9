-- How large each table of the shared record may become: names in events come from anybody who may publish.
--
-- What is there and is heard of stays; a new entry is refused, or takes the place of what was never confirmed or has
-- been silent for long. How many were refused is counted. The leader says so in a line, and exports it.
--
-- @include stored trouble
-- @keys refusals

local MOST = {
  workers = 10000, -- nodenames, each with a record of some hundred bytes
  processes = 20000, -- a worker that starts again is another process
  producers = 10000, -- names of tasks
  baselines = 10000, -- names of tasks
  names = 2000, -- of tasks
  queues = 1000,
  open = 1000000, -- tasks that are not finished
  waits = 1000000, -- tasks that have not started
  -- Of each process, what waits to be looked at by losses.lua: a quarter of an hour of heartbeats, and the starts
  -- between some of them.
  heartbeats = 500,
  starts = 20000,
}
local BEAT_SIZE, START_SIZE = 32, 8 -- bytes

-- How long what is kept, in ms.
local KEPT_FOR = {
  proof = 1000, -- between two words that prove a worker: one message has only one
  sign_of_life = 1000, -- a worker of which only tasks tell is noted so often
  trial = 10000, -- a worker that was never confirmed, in a full table
  silent_young = 10000, -- a worker that has not been heard of for as long as `youth`, in a full table
  youth = 600000,
  unconfirmed = 3600000, -- the same in any case
  silent_worker = 3600000, -- in a full table
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

-- Sets the field of a hash with a limit; a new field is refused if there are too many.
local function set_field(name, key, field, value)
  if attempt('HSET', key, field, value) == 1 and redis.call('HLEN', key) > MOST[name] then
    redis.call('HDEL', key, field)
    refuse_entry(name)
  end
end
