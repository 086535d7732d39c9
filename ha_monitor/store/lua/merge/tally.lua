-- How many events of the batch are new, and how many some instance had merged before.

local new_events, repeated_events = 0, 0

local function tally(new, repeated)
  new_events, repeated_events = new_events + new, repeated_events + repeated
end
