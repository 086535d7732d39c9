-- Keeps a report on a message that no instance could handle, before it is acknowledged. Atomic.
--
-- @keys set_aside
-- @families attempt
-- @option message  its name among the attempts
-- @option failure  the report as JSON
-- @option most_kept  how many to keep
--
-- Returns 1.

redis.call('LPUSH', keys.set_aside, options.failure)
redis.call('LTRIM', keys.set_aside, 0, options.most_kept - 1)
redis.call('DEL', families.attempt .. options.message)
return 1
