-- Numbers of events, made such that Redis and MessagePack can hold them.

local MOST_TIME, MOST_SECONDS = 4e15, 2e9 -- µs since the epoch; of a run
local MOST_RETRIES, MOST_COUNT = 2 ^ 31, 2 ^ 53

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
