-- Raises an instance's counts to what they were before the store went back. Atomic and idempotent.
--
-- @include counted lease pieces trouble
-- @keys counts
-- @options failure_ttl
-- @option counts  {{field, number as text}, …}
--
-- Returns 1, or the error LEASELOST.

return holding_lease(function()
  local raised = {}
  for _, count in ipairs(options.counts) do
    local field, number = count[1], count[2]
    if (tonumber(attempt('HGET', keys.counts, field) or nil) or 0) < tonumber(number) then
      raised[#raised + 1] = field
      raised[#raised + 1] = number
      note_counted(field, number)
    end
  end
  if #raised == 0 then return 1 end
  in_pieces(raised, 2 * PUSH_AT_ONCE, function(...) attempt('HSET', keys.counts, ...) end)
  attempt('EXPIRE', keys.counts, options.failure_ttl)
  return 1
end)
