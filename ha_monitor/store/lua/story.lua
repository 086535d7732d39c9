-- The story of a task: of each event whose id its record holds, in the order of the ids (ids.lua), when it was and what
-- it was. The id has the second already, so that three bytes are enough: the microsecond times 16, plus the code of the
-- event. An id of which nothing is known is from a record that an earlier version wrote.
--
-- @include ids

local story = {}

do
  local SIZE, UNKNOWN = 3, '\255\255\255'

  -- The story of a record as it was read, of which the ids are these.
  function story.of(text, seen)
    if type(text) == 'string' and #text * ID_SIZE == #seen * SIZE then return text end
    return string.rep(UNKNOWN, #seen / ID_SIZE)
  end

  -- Events come in order mostly, so those behind the last are packed together, which takes a third of the time.
  local behind, size = {}, 0
  local formats = {} -- how many -> what packs them

  -- The story with all events that were added to it.
  function story.whole(text)
    if size == 0 then return text end
    local format = formats[size]
    if not format then
      format = '>' .. string.rep('I' .. SIZE, size)
      formats[size] = format
    end
    text = text .. struct.pack(format, unpack(behind, 1, size))
    size = 0
    return text
  end

  -- Adds an event whose id now is at a place (from 0) of the ids; returns the story, of which some may be left for
  -- `whole`. drops: whether the first of the ids left them.
  function story.with(text, place, drops, at, code)
    local moment = at % 1000000 * 16 + code
    if place * SIZE == #text + size * SIZE and not drops then
      size = size + 1
      behind[size] = moment
      return text
    end
    text = story.whole(text)
    moment = struct.pack('>I3', moment)
    local before = place * SIZE
    if drops then return string.sub(text, SIZE + 1, before + SIZE) .. moment .. string.sub(text, before + SIZE + 1) end
    return string.sub(text, 1, before) .. moment .. string.sub(text, before + 1)
  end
end
