-- How much one call does. Redis serves nobody else meanwhile, so a call that was given much ends early.

local loaded = 0 -- bytes of values that this call has read
-- What this call will write when all is computed, as a number of records of usual size that take as long.
local to_write = 0
local TO_WRITE = {
  process = 2,
  index = 0.5,
  name = 1.5,
  -- Long texts take longer, since they are copied several times: bytes of them that take as long as a record.
  text = 2048,
  labels = 512, -- of a count
}

local function has_loaded(bytes)
  loaded = loaded + bytes
end

local function will_write(records)
  to_write = to_write + records
end
