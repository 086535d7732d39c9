-- How each duty of the leader begins: whoever does not lead any more, such as an instance that was frozen, does
-- nothing.
--
-- @include lease outbox
-- @keys leader
-- @options token

-- Does a duty; the reply is nothing if the caller does not lead, or the error LEASELOST.
local function leading(work)
  return holding_lease(function()
    if redis.call('GET', keys.leader) ~= options.token then return false end
    begin()
    return work()
  end)
end
