-- Writes the changed incidents, and puts the announcements about them into the caller's outbox. Atomic, so that an
-- incident fires if and only if its line is written, whoever leads.
--
-- @include duty outbox pieces trouble
-- @keys incidents
-- @option changed  {id, incident as JSON, …}
-- @option removed  {id, …} of incidents that are no longer kept
-- @option events  {event as MessagePack, …}
--
-- Returns {sequence number of the first item, items}; false if the caller does not lead; or the error LEASELOST.

return leading(function()
  -- If a foreign value is in place of the incidents, nothing is announced until it is set aside.
  local is_ours = unless_foreign('HLEN', keys.incidents)
  if is_ours then
    for _, event in ipairs(options.events) do put_event(event, NIL, false) end
  end
  local first = commit(nil, is_ours and function()
    in_pieces(options.removed, PUSH_AT_ONCE, function(...) redis.call('HDEL', keys.incidents, ...) end)
    in_pieces(options.changed, 2 * PUSH_AT_ONCE, function(...) redis.call('HSET', keys.incidents, ...) end)
  end)
  return { first, items }
end)
