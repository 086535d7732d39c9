-- Closes entries of the caller's outbox, some of whose handlers failed: those are retried later, or become dead
-- letters. Atomic and idempotent.
--
-- @include clock lease outbox
-- @keys retries dead_letters
-- @option failed  {{delay in ms, entry}, …} of the handlers that are retried
-- @option dead  {dead letter as JSON, …}
-- @option most_dead  dead letters to keep
--
-- Returns 1, or the error LEASELOST.

return holding_lease(function()
  if begin() == 0 then return 1 end
  for _, retry in ipairs(options.failed) do
    redis.call('ZADD', keys.retries, now + retry[1], retry[2])
  end
  for _, letter in ipairs(options.dead) do
    redis.call('LPUSH', keys.dead_letters, letter)
  end
  redis.call('LTRIM', keys.dead_letters, 0, options.most_dead - 1)
  trim()
  return 1
end)
