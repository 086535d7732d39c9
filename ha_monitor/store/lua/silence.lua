-- Adds a silence, or replaces the one with its id, and deletes those that are over. Atomic; needs no lease.
--
-- @include clock
-- @keys silences
-- @option silence  {id, the silence as JSON, ms since the epoch until which it lasts}
-- @option most_silences  how many to keep
--
-- Returns 1; 0 if there are too many.

local id, text, last = options.silence[1], options.silence[2], options.silence[3]
local kept = redis.call('HGETALL', keys.silences)
local count = 0
for index = 1, #kept, 2 do
  local good, one = pcall(cjson.decode, kept[index + 1])
  local ends = good and type(one) == 'table' and tonumber(one['until'])
  if not ends or ends * 1000 <= now then
    redis.call('HDEL', keys.silences, kept[index])
  elseif kept[index] ~= id then
    count, last = count + 1, math.max(last, math.floor(ends * 1000))
  end
end
if count >= options.most_silences then return 0 end
redis.call('HSET', keys.silences, id, text)
redis.call('PEXPIREAT', keys.silences, string.format('%.0f', math.min(last, now + 1e13)))
return 1
