-- Which tasks of lost workers are still to be looked for.
--
-- @include stored
-- @keys orphan_scan

local SCAN_KEPT_FOR = 60000 -- ms

-- The place to go on in the index, how often to go through it, and the tasks before that place that are yet to be
-- looked at; nil if nobody wants it.
local function read_orphan_scan()
  local cursor, turns, left = unpack(load_packed(keys.orphan_scan) or {}, 1, 3)
  if type(cursor) ~= 'string' or not string.match(cursor, '^%d+$') or type(turns) ~= 'number' then return nil end
  if type(left) ~= 'table' then return nil end
  return cursor, turns, left
end

local function write_orphan_scan(cursor, turns, left)
  redis.call('SET', keys.orphan_scan, cmsgpack.pack({ cursor, turns, left }), 'PX', SCAN_KEPT_FOR)
end

-- A worker that was just lost makes the index be gone through: from where it now is to the end, and once more, so that
-- more and more lost workers cannot keep it at its beginning. While any is lost it is done once a minute, for what came
-- late.
local function request_orphan_scan(any_lost, newly_lost)
  local cursor, turns, left = read_orphan_scan()
  if newly_lost then
    cursor, left = cursor or '0', left or {}
    write_orphan_scan(cursor, cursor == '0' and #left == 0 and 1 or 2, left)
  elseif any_lost and turns == nil then
    write_orphan_scan('0', 1, {})
  end
end
