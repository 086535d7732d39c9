-- Every call of an instance is made under its lease, which its token names: once another instance has taken its outbox
-- over, it changes nothing any more.
--
-- @include trouble
-- @keys leases
-- @option token  the caller's fencing token, as text

-- Does the work of a call; without the lease, the reply is `otherwise`, or the error LEASELOST. All replies are
-- {what Redis refused or what is not of the program's making, if the call did without it, or an empty text; what the
-- script says that it returns}.
local function holding_lease(work, otherwise)
  if redis.call('ZSCORE', keys.leases, options.token) == false then
    return otherwise and { '', otherwise } or redis.error_reply('LEASELOST the outbox of this instance was taken over')
  end
  local reply = work()
  return { trouble or '', reply }
end
