-- Keeps what can be told of a message that nobody could handle, before it is acknowledged. Atomic.
--
-- KEYS[1] set-aside  list    such messages as JSON, newest first
-- KEYS[2]            string  how often its handling has begun
--
-- ARGV[1] the message as JSON
-- ARGV[2] most messages to keep
--
-- Returns 1.

redis.call('LPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], 0, tonumber(ARGV[2]) - 1)
redis.call('DEL', KEYS[2])
return 1
