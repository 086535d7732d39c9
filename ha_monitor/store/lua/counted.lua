-- Whether this call has counted anything for the metrics: whoever serves them reads the counts anew then.

local has_counted = false

local function note_counted()
  has_counted = true
end
