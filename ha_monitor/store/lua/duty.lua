-- How each duty of the leader begins. Put behind record.lua, in front of the leader's scripts: whoever does not lead any
-- more, such as an instance that was frozen, does nothing.
--
-- KEYS[1] leases    zset    token of a living instance -> end of its lease, ms since the epoch
-- KEYS[2] instance  hash    the caller's entry, as in outbox.lua
-- KEYS[3] outbox    list    entries that the caller has yet to announce
-- KEYS[4] leader    string  the token of the leader
--
-- ARGV[1] the caller's token
-- ARGV[3] sequence number below which the caller has announced everything
--
-- Returns nothing if the caller does not lead; or the error LEASELOST.

if not holds_lease(KEYS[1], ARGV[1]) then
  return redis.error_reply('LEASELOST the outbox of this instance was taken over')
elseif redis.call('GET', KEYS[4]) ~= ARGV[1] then
  return false
end
begin(KEYS[3], KEYS[2], tonumber(ARGV[3]))
