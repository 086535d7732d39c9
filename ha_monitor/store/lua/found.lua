-- Tasks that were announced as stuck or orphaned.
--
-- @include pieces trouble
-- @keys stuck orphaned

-- Forgets tasks that have left the phase in which they were found stuck or orphaned.
local function forget_found(uuids)
  for _, key in ipairs({ keys.stuck, keys.orphaned }) do
    if redis.call('EXISTS', key) == 1 then
      in_pieces(uuids, PUSH_AT_ONCE, function(...) attempt('HDEL', key, ...) end)
    end
  end
end
