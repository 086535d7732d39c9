-- Every call of an instance is made under its lease, which its token names: once another instance has taken its outbox
-- over, it changes nothing any more.
--
-- @include counted trouble
-- @keys leases
-- @option token  the caller's fencing token, as text

-- Does the work of a call; without the lease, the reply is `otherwise`, or the error LEASELOST. All replies are
-- {what Redis refused or what is not of the program's making, if the call did without it, or an empty text; 1 if it has
-- counted something or 0; what the script says that it returns}.
local function holding_lease(work, otherwise)
  if redis.call('ZSCORE', keys.leases, options.token) == false then
    if otherwise then return { '', 0, otherwise } end
    return redis.error_reply('LEASELOST the outbox of this instance was taken over')
  end
  local reply = work()
  return { trouble or '', has_counted and 1 or 0, reply }
end
