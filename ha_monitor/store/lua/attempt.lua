-- Notes that the handling of messages begins which the broker had delivered before. Atomic.
--
-- KEYS[…]  string  how often the handling of one message has begun since it last succeeded
--
-- ARGV[1] a message whose handling has begun so often, or more often, is not noted
-- ARGV[2] seconds for which a note is kept
--
-- Returns for each key how often it had begun before.

local most, keep = tonumber(ARGV[1]), tonumber(ARGV[2])
local begun = {}
for index, key in ipairs(KEYS) do
  local noted = redis.pcall('GET', key)
  -- What is no text is not of our making, and is written over.
  local before = type(noted) == 'string' and tonumber(noted) or 0
  if before < most then
    redis.call('SET', key, before + 1, 'EX', keep)
  end
  begun[index] = before
end
return begun
