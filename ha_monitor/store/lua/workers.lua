-- Reads the records of all workers. Changes nothing.
--
-- KEYS[1] workers  zset  nodename -> when an instance last heard of it, ms since the epoch
-- and, by prefix: ARGV[1]w:<nodename> their records, as apply.lua writes them.
--
-- ARGV[1] prefix of the keys
--
-- Returns {{nodename, ms since the epoch, record as JSON}, …}: the record without the ids, which are no text.

local found = {}
local names = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for index = 1, #names, 2 do
  local raw = redis.call('GET', ARGV[1] .. 'w:' .. names[index])
  local record = raw and cmsgpack.unpack(raw) or {}
  local shown = {}
  if record.b then
    shown.heartbeat = { time = record.b[1], fields = record.b[3] }
  end
  if record.s then
    shown.said = { time = record.s[1], type = record.s[4], fields = record.s[3] }
  end
  found[#found + 1] = { names[index], names[index + 1], cjson.encode(shown) }
end
return found
