-- Every call of an instance is made under its lease, which its token names: once another instance has taken its outbox
-- over, it changes nothing any more.
--
-- @keys leases
-- @option token  the caller's fencing token, as text

-- Does the work of a call; without the lease, the reply is `otherwise`, or the error LEASELOST.
local function holding_lease(work, otherwise)
  if redis.call('ZSCORE', keys.leases, options.token) == false then
    return otherwise or redis.error_reply('LEASELOST the outbox of this instance was taken over')
  end
  return work()
end
