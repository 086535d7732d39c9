-- Which tasks of lost workers are still to be looked for.
--
-- @keys sweep

local SWEPT_FOR = 60000 -- ms

local function read_sweep()
  local cursor, turns = string.match(redis.call('GET', keys.sweep) or '', '^(%d+) (%d+)$')
  return cursor, tonumber(turns)
end

local function write_sweep(cursor, turns)
  redis.call('SET', keys.sweep, cursor .. ' ' .. turns, 'PX', SWEPT_FOR)
end

-- A worker that was just lost makes the index be gone through: from where it now is to the end, and once more, so that
-- more and more lost workers cannot keep it at its beginning. While any is lost it is done once a minute, for what came
-- late.
local function want_sweep(any_lost, newly_lost)
  local cursor, turns = read_sweep()
  if newly_lost then
    cursor = cursor or '0'
    write_sweep(cursor, cursor == '0' and 1 or 2)
  elseif any_lost and turns == nil then
    write_sweep('0', 1)
  end
end
