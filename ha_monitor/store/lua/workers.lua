-- Reads the records of some workers. Changes nothing.
--
-- @include liveness task_events worker
-- @keys liveness skewed records...
-- @option at  now, in ms since the epoch
-- @option late_after  ms of silence until a worker is late
-- @option heard  {{nodename, when an instance last heard of it in ms since the epoch}, …} of the records
--
-- Returns {record as JSON, …}: without the ids, which are not text, and with `state`: the state as the leader stored
-- it, since only the leader declares a worker lost; `sends`: whether an event proves that its latest process sends task
-- events; `unsent`: the number of that process's latest runs without any event; `skew`: ms by which its clock is
-- behind; `online`: the time in µs of its last worker-online, if no worker-offline followed; `lost`: when an instance
-- last heard of it in ms, if it is lost; `unconfirmed`: whether it was heard of only once. Of a record that cannot be
-- read, only its readable parts are returned.

local function shown_of(key, name, heard)
  local record, shown = read_worker(redis.pcall('GET', key)), {}
  local before = redis.pcall('HGET', keys.liveness, name)
  before = type(before) == 'string' and before or nil
  shown.state = state_of(record, heard, before, options.at, options.late_after)
  if shown.state == LOST then
    local _, heard_before = read_lost(before)
    shown.lost = tonumber(heard_before)
  end
  shown.unconfirmed = record.f ~= nil
  shown.sends, shown.unsent = task_events(name, record)
  local skew = redis.pcall('HGET', keys.skewed, name)
  shown.skew = number_within(type(skew) == 'string' and math.abs(tonumber(skew) or 0), 1e13) and tonumber(skew) or 0
  if record.b then
    shown.heartbeat = { fields = record.b[3] }
  end
  if record.s then
    shown.said = { fields = record.s[3] }
    if record.s[4] == 'worker-online' then shown.online = record.s[1] end
  end
  return shown
end

local found = {}
for index, worker in ipairs(options.heard) do
  local shown = shown_of(keys.records[index], worker[1], worker[2])
  -- JSON has no infinity and no unlimited nesting.
  local encodable, text = pcall(cjson.encode, shown)
  found[index] = encodable and text or cjson.encode({ state = shown.state })
end
return found
