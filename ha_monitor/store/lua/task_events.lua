-- Whether a worker sends task events, judged by what losses.lua knows of its latest process.
--
-- @include worker
-- @families starts account

-- Whether an event proves that the process sends them; then the number of its latest runs without any event.
local function task_events(name, record)
  -- Before the last worker-online, it may have been another process.
  if record.t and record.t >= (record.s and record.s[1] or 0) then return true, 0 end
  local word = record.b or record.s
  local pid = word and number_within(word[3].pid, 2 ^ 32)
  if not pid then return false, 0 end
  local process = name .. '\31' .. string.format('%.0f', pid)
  local account = packed_table(redis.pcall('GET', families.account .. process))
  local starts = redis.pcall('STRLEN', families.starts .. process)
  if account.sends == true or type(starts) == 'number' and starts > 0 then return true, 0 end
  return false, number_within(account.unsent, 1e12) or 0
end
