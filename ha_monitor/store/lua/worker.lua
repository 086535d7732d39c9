-- Reads the record of a worker so that a broken value loses only its own content.
--
-- b = {time in µs, id, fields} of its latest heartbeat; s = {time, id, fields, type} of its latest worker-online or
-- worker-offline; t = time in µs of its latest task event; c = what its clock said in the event that came last, in µs;
-- f = when it was first heard of in ms, until it is confirmed; y = the same from then on, while it is young
-- (tables.lua).

-- A MessagePack value in Redis as a table; an empty one if there is none, or if it cannot be read.
local function packed_table(raw)
  local readable, found = pcall(cmsgpack.unpack, type(raw) == 'string' and raw or '\128')
  return readable and type(found) == 'table' and found or {}
end

-- A number, or a text as a number; nil if it is not one from 0 to `most`.
local function number_within(value, most)
  local kind = type(value)
  local number = (kind == 'number' or kind == 'string') and tonumber(value) or nil
  return number and number >= 0 and number <= most and number or nil
end

-- The valid parts of a record.
local function checked_worker(record)
  local function is_word(word)
    return type(word) == 'table' and type(word[1]) == 'number' and math.abs(word[1]) < 1e18 and type(word[3]) == 'table'
  end

  return {
    b = is_word(record.b) and record.b or nil,
    s = is_word(record.s) and type(record.s[4]) == 'string' and record.s or nil,
    t = type(record.t) == 'number' and math.abs(record.t) < 1e18 and record.t or nil,
    c = type(record.c) == 'number' and math.abs(record.c) < 1e18 and record.c or nil,
    f = type(record.f) == 'number' and record.f or nil,
    y = type(record.y) == 'number' and record.y or nil,
  }
end

-- Whether a worker sends heartbeats by itself, as far as is known. A heartbeat that was requested does not say how many
-- runs were started. A worker started with --without-heartbeat sends neither worker-online nor worker-offline.
local function sends_heartbeats(record)
  if record.b == nil and record.t == nil then return true end
  return record.s ~= nil or record.b ~= nil and record.b[3].processed ~= nil
end

local function read_worker(raw)
  return checked_worker(packed_table(raw))
end
