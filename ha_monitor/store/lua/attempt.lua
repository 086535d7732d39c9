-- Notes that the handling of redelivered messages begins. Atomic.
--
-- @include numbers
-- @keys noted...
-- @option below  a message whose handling has begun so often is no longer noted
-- @option keep  seconds for which a note is kept
--
-- Returns for each key how often the handling of its message had begun before.

local MAX_BEGUN = 2 ^ 31
local begun = {}
for index, key in ipairs(keys.noted) do
  local noted = redis.pcall('GET', key)
  -- A value that is not such a number is foreign, and is overwritten.
  local before = type(noted) == 'string' and number_in(noted, MAX_BEGUN) or 0
  if before < options.below then
    redis.call('SET', key, before + 1, 'EX', options.keep)
  end
  begun[index] = before
end
return begun
