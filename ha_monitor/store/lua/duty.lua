-- How each duty of the leader begins: an instance that no longer leads, such as one that was frozen, does nothing.
--
-- @include lease outbox
-- @keys leader
-- @options token

-- Does a duty. The reply is false if the caller does not lead, or the error LEASELOST.
local function leading(work)
  return holding_lease(function()
    if redis.call('GET', keys.leader) ~= options.token then return false end
    begin()
    return work()
  end)
end
