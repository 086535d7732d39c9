-- Finds keys in whose place there is something of another type, of which no script can make anything, and sets it
-- aside where the fleet can go on without what the key held. Atomic.
--
-- @keys checked...
-- @option prefix  of all keys
-- @option aside  prefix under which something is kept that was set aside
-- @option kept_for  seconds for which it is kept
-- @option expected  {{type, whether it may be set aside}, …} of the keys
--
-- Returns {{key, type of what is there, where it is now or an empty text}, …}.

local found = {}
for index, key in ipairs(keys.checked) do
  local is = redis.call('TYPE', key).ok
  local expected, may_go = unpack(options.expected[index])
  if is ~= 'none' and is ~= expected then
    local aside = ''
    if may_go then
      aside = options.aside .. string.sub(key, #options.prefix + 1)
      redis.call('RENAME', key, aside)
      redis.call('EXPIRE', aside, options.kept_for)
    end
    found[#found + 1] = { key, is, aside }
  end
end
return found
