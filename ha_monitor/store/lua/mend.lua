-- Finds keys in whose place there is something of another type, of which no script can make anything, and sets it
-- aside where the fleet can go on without what the key held. Atomic.
--
-- KEYS[…] any keys
--
-- ARGV[1] prefix of all of them
-- ARGV[2] prefix under which something is kept that was set aside
-- ARGV[3] for how many seconds
-- ARGV[4] … for each key its type, then 1 if it may be set aside or 0
--
-- Returns {{key, type of what is there, where it is now or an empty text}, …}.

local found = {}
for index, key in ipairs(KEYS) do
  local is = redis.call('TYPE', key).ok
  local expected, may_go = ARGV[2 + 2 * index], ARGV[3 + 2 * index] == '1'
  if is ~= 'none' and is ~= expected then
    local aside = ''
    if may_go then
      aside = ARGV[2] .. string.sub(key, #ARGV[1] + 1)
      redis.call('RENAME', key, aside)
      redis.call('EXPIRE', aside, ARGV[3])
    end
    found[#found + 1] = { key, is, aside }
  end
end
return found
