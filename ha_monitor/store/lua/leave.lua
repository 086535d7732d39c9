-- Gives up the caller's lease. What is still in its outbox is free for others at once.
--
-- KEYS[1] leases      zset   token of a living instance -> end of its lease, ms since the epoch
-- KEYS[2] instance    hash   the caller's entry
-- KEYS[3] outbox      list   entries that the caller has yet to announce
-- KEYS[4] returned    string when messages were last handed back to the broker, ms since the epoch
--
-- ARGV[1] the caller's token
-- ARGV[2] sequence number below which the caller has announced everything
--
-- Returns how many entries are left to others.

if not holds_lease(KEYS[1], ARGV[1]) then
  return 0
end
begin(KEYS[3], KEYS[2], tonumber(ARGV[2]))
trim(KEYS[3])
-- What the caller was given and has not merged goes back as soon as it closes its connection.
redis.call('SET', KEYS[4], now_ms() + 1000, 'EX', 3600)
local left = redis.call('LLEN', KEYS[3])
if left > 0 then
  redis.call('ZADD', KEYS[1], 0, ARGV[1])
else
  redis.call('DEL', KEYS[2], KEYS[3])
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return left
