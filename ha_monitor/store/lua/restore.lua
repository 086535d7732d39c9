-- Notes what the caller had announced when this Redis went back (rollback.lua): what is merged again, by any instance,
-- is not announced again. Atomic and idempotent.
--
-- @include lease outbox
-- @option ids  of events
--
-- Returns 1, or the error LEASELOST.

local KEPT_FOR = 600 -- s: by then all instances have merged again what the store lost

return holding_lease(function()
  begin()
  leave_out_later(options.ids, KEPT_FOR)
  trim()
  return 1
end)
