-- How many events of the batch are new, and how many were merged before by any instance.

local tally = { new = 0, repeated = 0 }

function tally.add(new, repeated)
  tally.new, tally.repeated = tally.new + new, tally.repeated + repeated
end
