-- The search of the index of open tasks for those of lost workers.
--
-- @include stored
-- @keys orphan_scan

local SCAN_KEPT_FOR = 60000 -- ms

-- Where to continue in the index, how many passes are left, and the tasks before that place that were not looked at
-- yet; nil if no search is requested.
local function read_orphan_scan()
  local cursor, turns, left = unpack(load_packed(keys.orphan_scan) or {}, 1, 3)
  if type(cursor) ~= 'string' or not string.match(cursor, '^%d+$') or type(turns) ~= 'number' then return nil end
  if type(left) ~= 'table' then return nil end
  return cursor, turns, left
end

local function write_orphan_scan(cursor, turns, left)
  redis.call('SET', keys.orphan_scan, cmsgpack.pack({ cursor, turns, left }), 'PX', SCAN_KEPT_FOR)
end

-- A newly lost worker starts a search of the index: from its current place to the end, and then one whole pass, so that
-- a series of lost workers cannot keep it at the beginning. While any worker is lost, a search is repeated once a
-- minute, for events that came late.
local function request_orphan_scan(any_lost, newly_lost)
  local cursor, turns, left = read_orphan_scan()
  if newly_lost then
    cursor, left = cursor or '0', left or {}
    write_orphan_scan(cursor, cursor == '0' and #left == 0 and 1 or 2, left)
  elseif any_lost and turns == nil then
    write_orphan_scan('0', 1, {})
  end
end
