-- What this call has counted for the metrics: whoever serves them keeps a copy, and learns of each change by the reply.

local counted = {} -- field, number, field, number, …; an empty number where a field is gone
local samples_added = 0 -- at most, that a scrape returns from now on and did not before

local function note_counted(field, number)
  local size = #counted
  counted[size + 1], counted[size + 2] = field, number
end

local function note_samples(count)
  samples_added = samples_added + count
end

-- What the reply says of it.
local function counted_reply()
  if #counted == 0 and samples_added == 0 then return {} end
  return { samples_added, counted }
end
