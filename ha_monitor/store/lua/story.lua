-- The story of a task: for each event whose id the record holds, in the order of the ids (ids.lua), its time and its
-- type. The id already has the second, so three bytes are enough: the microsecond times 16, plus the event's code.
-- UNKNOWN stands for an event of a record that an earlier version wrote.
--
-- @include ids numbers

local story = {}

do
  local SIZE, UNKNOWN = 3, '\255\255\255'
  local unpack, pack, unpack_id, sub = unpack, struct.pack, struct.unpack, string.sub
  local FORMAT = ids.FORMAT

  -- The story in a record with these ids; if it does not fit them, one of UNKNOWN.
  function story.of(text, seen)
    if type(text) == 'string' and #text * ID_SIZE == #seen * SIZE then return text end
    return string.rep(UNKNOWN, #seen / ID_SIZE)
  end

  -- The ids and the story of the current task, without the events whose ids come after all of these. Most events do, so
  -- they are gathered, in order, and appended at once.
  local seen, text
  local count -- ids in `seen`
  local last_first, last_second -- the last id, as two numbers; nil until it is needed
  local size = 0 -- number of gathered events
  local gathered, firsts, seconds, moments = {}, {}, {}, {} -- of each its id, the id as two numbers, and its moment
  local formats = {} -- number of moments -> format that packs them

  -- Starts with the ids and the story of a record.
  function story.begin(seen_before, text_before)
    seen, text, count, last_first, size = seen_before, text_before, #seen_before / ID_SIZE, nil, 0
  end

  -- The ids and the story with everything that was added.
  function story.whole()
    if size == 0 then return seen, text end
    local format = formats[size]
    if not format then
      format = '>' .. string.rep('I' .. SIZE, size)
      formats[size] = format
    end
    seen = seen .. (size == 1 and gathered[1] or table.concat(gathered, '', 1, size))
    text = text .. pack(format, unpack(moments, 1, size))
    count, last_first, size = count + size, nil, 0
    return seen, text
  end

  -- Inserts an event among those before the gathered ones.
  local function insert(id, moment)
    local with, place, drops = ids.add(seen, id)
    if not with then return false end
    seen, count, last_first = with, #with / ID_SIZE, nil
    if not place then return true end
    local packed_moment, before = pack('>I3', moment), place * SIZE
    if drops then
      text = sub(text, SIZE + 1, before + SIZE) .. packed_moment .. sub(text, before + SIZE + 1)
    else
      text = sub(text, 1, before) .. packed_moment .. sub(text, before + 1)
    end
    return true
  end

  -- Adds an event if it is new; returns whether it is. at: its time in µs.
  function story.add(id, at, code)
    if not (at >= 0 and at <= MAX_TIME and at % 1 == 0) then at = whole(at, MAX_TIME) end
    local moment = at % 1000000 * 16 + code
    if count + size >= MAX_IDS then
      story.whole()
      return insert(id, moment)
    end
    local first, second = unpack_id(FORMAT, id)
    local place = size
    while place > 0 do
      local known = firsts[place]
      if first > known or (first == known and second >= seconds[place]) then break end
      place = place - 1
    end
    if place == 0 then
      if count > 0 then
        if not last_first then last_first, last_second = unpack_id(FORMAT, seen, (count - 1) * ID_SIZE + 1) end
        if first < last_first or (first == last_first and second <= last_second) then return insert(id, moment) end
      end
    elseif first == firsts[place] and second == seconds[place] then
      return false
    end
    for index = size, place + 1, -1 do
      gathered[index + 1], firsts[index + 1] = gathered[index], firsts[index]
      seconds[index + 1], moments[index + 1] = seconds[index], moments[index]
    end
    place, size = place + 1, size + 1
    gathered[place], firsts[place], seconds[place], moments[place] = id, first, second, moment
    return true
  end
end
