-- Keeps what can be told of a message that nobody could handle, before it is acknowledged. Atomic.
--
-- @keys set_aside
-- @families attempt
-- @option message  what names it among the attempts
-- @option told  what can be told of it, as JSON
-- @option most_kept  messages to keep
--
-- Returns 1.

redis.call('LPUSH', keys.set_aside, options.told)
redis.call('LTRIM', keys.set_aside, 0, options.most_kept - 1)
redis.call('DEL', families.attempt .. options.message)
return 1
