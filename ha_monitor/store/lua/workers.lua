-- Reads the records of all workers. Changes nothing.
--
-- KEYS[1] workers    zset  nodename -> when an instance last heard of it, ms since the epoch
-- KEYS[2] processes  zset  <nodename>\31<pid> of a worker's process -> when an instance last heard of it, ms
-- and, by prefix: ARGV[1]w:<nodename> their records, as apply.lua writes them; for each process, ARGV[1]p:<process>
-- the times of its task-started, as apply.lua appends them, ARGV[1]l:<process> its account, as losses.lua keeps it.
--
-- ARGV[1] prefix of the keys
--
-- Returns {{nodename, ms since the epoch, record as JSON}, …}: the record without the ids, which are no text, and with
-- `sends`: whether an event shows that its latest process sends task events, and `unsent`: the latest runs of that
-- process of which no event came.

local latest = {}
for _, process in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  latest[string.match(process, '^(.*)\31')] = process
end

local function task_events(process)
  if not process then return false, 0 end
  local raw = redis.call('GET', ARGV[1] .. 'l:' .. process)
  local account = raw and cmsgpack.unpack(raw) or {}
  if account.sends or redis.call('STRLEN', ARGV[1] .. 'p:' .. process) > 0 then return true, 0 end
  return false, account.unsent or 0
end

local found = {}
local names = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for index = 1, #names, 2 do
  local raw = redis.call('GET', ARGV[1] .. 'w:' .. names[index])
  local record = raw and cmsgpack.unpack(raw) or {}
  local shown = {}
  shown.sends, shown.unsent = task_events(latest[names[index]])
  if record.b then
    shown.heartbeat = { time = record.b[1], fields = record.b[3] }
  end
  if record.s then
    shown.said = { time = record.s[1], type = record.s[4], fields = record.s[3] }
  end
  found[#found + 1] = { names[index], names[index + 1], cjson.encode(shown) }
end
return found
