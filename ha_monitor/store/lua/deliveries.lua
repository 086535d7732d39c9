-- Messages about incidents on their way to the channels: writes what the leader reports about them, and returns what is
-- known then. A duty of the leader.
--
-- A message is claimed before it is delivered, so that after a crash in between another leader delivers it again under
-- its id. A report that a message was taken counts only while its claim exists, and the claim is deleted last: so the
-- call may be repeated, even after one that failed half-way.
--
-- @include clock duty pieces trouble
-- @keys notify_claims notify_told notify_taken
-- @option claimed  {id, claim, …} of messages that are delivered now
-- @option taken  {{id, when in ms, {field of notify_told, value, …}}, …} of messages that their channels took
-- @option released  ids of claims whose messages no channel took
-- @option noted  {field, value, …} to set in notify_told
-- @option over  fields to delete from notify_told
-- @option taken_kept  ms for which it is remembered when a message was taken
--
-- Returns {now in ms, {id, claim, …}, {field, value, …}, {id, when in ms, …}}; false if the caller does not lead; or
-- the error LEASELOST.

return leading(function()
  for _, message in ipairs(options.taken) do
    local id, at, notified = unpack(message)
    if redis.call('HEXISTS', keys.notify_claims, id) == 1 then
      in_pieces(notified, 2 * PUSH_AT_ONCE, function(...) redis.call('HSET', keys.notify_told, ...) end)
      redis.call('ZADD', keys.notify_taken, at, id)
      redis.call('HDEL', keys.notify_claims, id)
    end
  end
  in_pieces(options.released, PUSH_AT_ONCE, function(...) redis.call('HDEL', keys.notify_claims, ...) end)
  in_pieces(options.noted, 2 * PUSH_AT_ONCE, function(...) redis.call('HSET', keys.notify_told, ...) end)
  in_pieces(options.claimed, 2 * PUSH_AT_ONCE, function(...) redis.call('HSET', keys.notify_claims, ...) end)
  in_pieces(options.over, PUSH_AT_ONCE, function(...) redis.call('HDEL', keys.notify_told, ...) end)
  attempt('ZREMRANGEBYSCORE', keys.notify_taken, '-inf', now - options.taken_kept)
  return {
    now,
    unless_foreign('HGETALL', keys.notify_claims) or {},
    unless_foreign('HGETALL', keys.notify_told) or {},
    unless_foreign('ZRANGE', keys.notify_taken, 0, -1, 'WITHSCORES') or {},
  }
end)
