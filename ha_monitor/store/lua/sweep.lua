-- Which tasks of lost workers are still to be looked for. Put in front of the scripts that want it and that do it.
--
-- A string, "<cursor of ZSCAN> <times to go through the index>", which expires a minute after it was last written.

local SWEPT_FOR = 60000 -- ms

local function read_sweep(key)
  local cursor, turns = string.match(redis.call('GET', key) or '', '^(%d+) (%d+)$')
  return cursor, tonumber(turns)
end

local function write_sweep(key, cursor, turns)
  redis.call('SET', key, cursor .. ' ' .. turns, 'PX', SWEPT_FOR)
end

-- A worker that was just lost makes the index be gone through: from where it now is to the end, and once more, so that
-- more and more lost workers cannot keep it at its beginning. While any is lost it is done once a minute, for what came
-- late.
local function want_sweep(key, any_lost, newly_lost)
  local cursor, turns = read_sweep(key)
  if newly_lost then
    cursor = cursor or '0'
    write_sweep(key, cursor, cursor == '0' and 1 or 2)
  elseif any_lost and turns == nil then
    write_sweep(key, '0', 1)
  end
end
