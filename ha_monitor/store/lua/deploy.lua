-- Notes that something was deployed. Atomic; needs no lease.
--
-- @keys deploys
-- @option mark  what is noted, as JSON
-- @option most_marks  how many to keep
--
-- Returns 1.

redis.call('LPUSH', keys.deploys, options.mark)
redis.call('LTRIM', keys.deploys, 0, options.most_marks - 1)
return 1
