-- When the leader looks at an open task again: within an hour. So after a step of Redis's clock by an hour or more,
-- each look that is put off for too long is recognized (deadlines.lua).
--
-- @include clock

local MAX_FIRST_LOOK = 3600000 -- ms

-- When to look at an open task, given when it is necessary, in ms since the epoch.
local function time_of_look(at)
  return math.min(at, now + MAX_FIRST_LOOK)
end
