-- Counts events for the metrics of an instance. Put behind record.lua, in front of the scripts that count.
--
-- The counts lie in one hash an instance, written in the same call that merges the events: what is merged once is
-- counted once, whatever dies meanwhile, and the counts go on where they were when the instance starts again.
--
-- A field is made of parts with SEPARATOR between:
--   {code, name, worker, queue, exception}   how many events of that code (see record.lua); exception with FAILED only
--   {'r', name, worker, queue, le}           runs that took at most `le` seconds, and more than the bound before
--   {'R', name, worker, queue, ''}           their sum in µs
--   {'w', …} {'W', …}                        the same for the time between sent (or due) and started
-- `worker` is a nodename, or for SENT the host of the producer, whose nodename has its process id in it.
-- {'l', nodename} is the number of events lost (see losses.lua), {'z', name} that of missing ends that were added (see
-- judge.lua).

local SEPARATOR = '\31'
local UNKNOWN, OVERFLOW = 'unknown', 'overflow'
local counts = {}
-- {most fields of the hash, upper bounds of the histograms in ascending order, whether the worker is told apart},
-- or nil where nothing is counted.
local counting

local function increment(field, by)
  counts[field] = (counts[field] or 0) + by
end

local function observe(kind, labels, seconds)
  local le = '+Inf'
  for _, bound in ipairs(counting[2]) do
    if seconds <= bound then
      le = bound
      break
    end
  end
  increment(kind .. labels .. le, 1)
  increment(string.upper(kind) .. labels, math.floor(seconds * 1000000 + 0.5))
end

-- Whether the labels of a task's events are known: its name, and its queue where the producers send task-sent.
local function is_countable(facts, sends)
  return facts.n ~= nil and (facts.q ~= nil or not sends(facts.n))
end

-- Counts one event. extra: the run time in seconds with SUCCEEDED, the exception's text with FAILED; or nil.
local function count_event(facts, code, at, worker, extra)
  if code == SENT then
    worker = string.match(worker, '@(.*)$') or worker
  end
  if not counting[3] then
    worker = ''
  end
  local labels = SEPARATOR .. (facts.n or UNKNOWN) .. SEPARATOR .. worker .. SEPARATOR .. (facts.q or UNKNOWN) .. SEPARATOR
  if code == FAILED then
    increment(code .. labels .. (string.match(extra or '', '^([%w_.]+)%(') or 'UnknownException'), 1)
    return
  end
  increment(code .. labels, 1)
  if code == SUCCEEDED then
    if extra then observe('r', labels, extra) end
  elseif code == STARTED and at > 0 then
    local available = facts.st and math.max(facts.st, facts.e or 0) or facts.rl
    -- A producer says that it has sent a task when that is done, and a worker may be faster. A time well after the
    -- start is that of another run of the task.
    if available and available > 0 and available <= at + 1000000 then
      observe('w', labels, math.max(0, at - available) / 1000000)
    end
  end
end

local function count_reconciled(facts)
  increment('z' .. SEPARATOR .. (facts.n or UNKNOWN), 1)
end

-- Whether events of a code are counted.
local function is_counted(code)
  return code ~= 0 and code ~= FINISHED
end

local function overflow_of(field)
  local kind, last = string.match(field, '^(.-)' .. SEPARATOR .. '.*' .. SEPARATOR .. '(.-)$')
  if kind == nil then
    return string.sub(field, 1, 1) .. SEPARATOR .. OVERFLOW
  end
  local parts = { kind, OVERFLOW, OVERFLOW, OVERFLOW, kind == tostring(FAILED) and OVERFLOW or last }
  return table.concat(parts, SEPARATOR)
end

-- Adds what was counted to the hash. New fields beyond the limit are added up under labels of their own.
local function write_counts(key, ttl)
  local size = 0
  for _ in pairs(counts) do
    size = size + 1
  end
  if size == 0 then return end
  local full = redis.call('HLEN', key) + size > counting[1]
  for field, by in pairs(counts) do
    if full and redis.call('HEXISTS', key, field) == 0 and redis.call('HLEN', key) >= counting[1] then
      field = overflow_of(field)
    end
    redis.call('HINCRBY', key, field, by)
  end
  redis.call('EXPIRE', key, ttl)
end
