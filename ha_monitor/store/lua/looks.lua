-- When the leader looks at an open task again: not later than in an hour, so that after a step of Redis's clock by an
-- hour or more each look that is put off for too long is known for what it is (deadlines.lua).
--
-- @include clock

local LONGEST_LOOK = 3600000 -- ms

-- When to look at an open task, given when it need be, in ms since the epoch.
local function time_of_look(at)
  return math.min(at, now + LONGEST_LOOK)
end
