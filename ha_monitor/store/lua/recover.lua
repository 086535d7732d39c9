-- Moves the caller's entry and outbox to a new token after a broken connection. A call that was under way on the
-- old connection may still arrive, at any later time; it carries the old token and is refused. Repeating it with the
-- old token gives LEASELOST: what it moved is then taken over when the new token's lease runs out.
--
-- KEYS[1] leases      zset    token of a living instance -> end of its lease, ms since the epoch
-- KEYS[2] instance    hash    the caller's entry, as in outbox.lua
-- KEYS[3] outbox      list    entries that the caller has yet to announce
-- KEYS[4] tokens      string  the last token given out
-- and, by prefix: ARGV[3]instance:<token>, ARGV[3]outbox:<token> of the new token.
--
-- ARGV[1] the caller's token
-- ARGV[2] lease in ms
-- ARGV[3] prefix of the keys
-- ARGV[4] sequence number below which the caller has announced everything
--
-- Returns {new token, sequence number of the first entry, entries}, or the error LEASELOST.

if not holds_lease(KEYS[1], ARGV[1]) then
  return redis.error_reply('LEASELOST the outbox of this instance was taken over')
end
begin(KEYS[3], KEYS[2], tonumber(ARGV[4]))
trim(KEYS[3])
local now = now_ms()
local token = math.max(tonumber(redis.call('GET', KEYS[4]) or '0') + 1, now)
local instance, outbox = ARGV[3] .. 'instance:' .. token, ARGV[3] .. 'outbox:' .. token
redis.call('SET', KEYS[4], token)
-- Should it fail between two of these, the outbox that was moved is taken over when the new lease runs out.
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), token)
if redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('RENAME', KEYS[3], outbox)
end
if redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('RENAME', KEYS[2], instance)
end
redis.call('ZREM', KEYS[1], ARGV[1])
return { token, behind - length, redis.call('LRANGE', outbox, 0, -1) }
