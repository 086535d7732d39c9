-- Reads the records of some workers. Changes nothing.
--
-- KEYS[1] liveness  hash  nodename -> its state, as liveness.lua says
-- KEYS[2] … their records, as apply.lua writes them
-- and, by prefix, for the process of the latest heartbeat: ARGV[1]p:<process> the times of its task-started, as
-- apply.lua appends them, ARGV[1]l:<process> its account, as losses.lua keeps it.
--
-- ARGV[1] prefix of the keys
-- ARGV[2] now, in ms since the epoch
-- ARGV[3] ms of silence until a worker is late
-- ARGV[4] … their nodenames, and when an instance last heard of each, in ms since the epoch
--
-- Returns {record as JSON, …}: without the ids, which are no text, and with `state`: what the leader says of it, and
-- only the leader says that one is lost; `sends`: whether an event shows that its latest process sends task events, and `unsent`: the latest runs of that process of which no event came. Of a record that
-- cannot be read, what can be.

local function task_events(name, record)
  local word = record.b or record.s
  local pid = word and number_within(word[3].pid, 2 ^ 32)
  if not pid then return false, 0 end
  local process = name .. '\31' .. string.format('%.0f', pid)
  local raw = redis.pcall('GET', ARGV[1] .. 'l:' .. process)
  local readable, account = pcall(cmsgpack.unpack, type(raw) == 'string' and raw or '\128')
  account = readable and type(account) == 'table' and account or {}
  local starts = redis.pcall('STRLEN', ARGV[1] .. 'p:' .. process)
  if account.sends == true or type(starts) == 'number' and starts > 0 then return true, 0 end
  return false, number_within(account.unsent, 1e12) or 0
end

local function shown_of(key, name, heard)
  local raw = redis.pcall('GET', key)
  local record = read_worker(type(raw) == 'string' and raw or nil)
  local shown = {}
  local before = redis.pcall('HGET', KEYS[1], name)
  before = type(before) == 'string' and before or nil
  shown.state = state_of(record, heard, before, tonumber(ARGV[2]), tonumber(ARGV[3]))
  shown.sends, shown.unsent = task_events(name, record)
  if record.b then
    shown.heartbeat = { fields = record.b[3] }
  end
  if record.s then
    shown.said = { fields = record.s[3] }
  end
  return shown
end

local found = {}
for index = 1, #KEYS - 1 do
  local shown = shown_of(KEYS[index + 1], ARGV[2 * index + 2], tonumber(ARGV[2 * index + 3]))
  -- JSON has neither infinity nor nesting without end.
  local encodable, text = pcall(cjson.encode, shown)
  found[index] = encodable and text or cjson.encode({ state = shown.state })
end
return found
