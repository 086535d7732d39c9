-- Closes entries of the caller's outbox, some of whose handlers failed: those are tried again later, or become
-- dead letters. Atomic; repeating it changes nothing.
--
-- KEYS[1] leases        zset   token of a living instance -> end of its lease, ms since the epoch
-- KEYS[2] instance      hash   the caller's entry, as in outbox.lua
-- KEYS[3] outbox        list   entries that the caller has yet to announce
-- KEYS[4] retries       zset   outbox entry for one handler -> when it is due, ms since the epoch
-- KEYS[5] dead letters  list   what failed for good, as JSON, newest first
--
-- ARGV[1] the caller's token
-- ARGV[2] sequence number below which the caller has announced everything
-- ARGV[3] most dead letters to keep
-- ARGV[4] MessagePack: {{delay in ms, entry}, …}, {dead letter as JSON, …}
--
-- Returns 1, or the error LEASELOST.

if not holds_lease(KEYS[1], ARGV[1]) then
  return redis.error_reply('LEASELOST the outbox of this instance was taken over')
end
begin(KEYS[3], KEYS[2], tonumber(ARGV[2]))
if done == 0 then
  return 1
end
local now = now_ms()
local retries, dead = unpack(cmsgpack.unpack(ARGV[4]))
for _, retry in ipairs(retries) do
  redis.call('ZADD', KEYS[4], now + retry[1], retry[2])
end
for _, letter in ipairs(dead) do
  redis.call('LPUSH', KEYS[5], letter)
end
redis.call('LTRIM', KEYS[5], 0, tonumber(ARGV[3]) - 1)
trim(KEYS[3])
return 1
