-- After the connection broke: whether the caller's lease still holds, and what is left in its outbox.
--
-- KEYS[1] leases      zset   token of a living instance -> end of its lease, ms since the epoch
-- KEYS[2] instance    hash   the caller's entry; `base` as in apply.lua
-- KEYS[3] outbox      list   entries that the caller has yet to announce
--
-- ARGV[1] the caller's token
-- ARGV[2] lease in ms
--
-- Returns {sequence number of the first entry, entries}, or the error LEASELOST.

if not holds_lease(KEYS[1], ARGV[1]) then
  return redis.error_reply('LEASELOST the outbox of this instance was taken over')
end
redis.call('ZADD', KEYS[1], now_ms() + tonumber(ARGV[2]), ARGV[1])
return { tonumber(redis.call('HGET', KEYS[2], 'base') or '0'), redis.call('LRANGE', KEYS[3], 0, -1) }
