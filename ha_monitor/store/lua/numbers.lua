-- Numbers of events, limited to what Redis and MessagePack can hold; and numbers in Redis, which are texts there.

local MAX_TIME, MAX_SECONDS = 4e15, 2e9 -- µs since the epoch; duration of a run
local MAX_RETRIES, MAX_COUNT = 2 ^ 31, 2 ^ 53

-- A number from 0 to `most`; 0 for anything else, such as NaN.
local function clamped(value, most)
  if type(value) == 'number' and value > 0 then
    return value < most and value or most
  end
  return 0
end

local function whole(value, most)
  return math.floor(clamped(value, most))
end

-- A text as a whole number from 0 to `most`, or nil if it is not one. A number above 2 ^ 53 is never accepted, because
-- Lua would round it.
local function number_in(text, most)
  local number = string.match(text, '^%d+$') and tonumber(text)
  return number and number <= (most or MAX_COUNT) and number or nil
end
