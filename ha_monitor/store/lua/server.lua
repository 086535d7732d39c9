-- Which Redis this is, and since when.

-- A text that is another one after each start of a Redis, and after each fail-over: what was confirmed before may be
-- lost since then. Empty if INFO is forbidden.
local function server_id()
  local found = ''
  for _, part in ipairs({ { 'server', 'run_id:(%x+)' }, { 'replication', 'master_replid:(%x+)' } }) do
    local reply = redis.pcall('INFO', part[1])
    found = found .. (type(reply) == 'string' and string.match(reply, part[2]) or '')
  end
  return found
end
