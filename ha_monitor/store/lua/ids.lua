-- The ids of the events that were merged for a task.
--
-- A record holds the ids of the MAX_IDS latest events, by the events' own time. The id of an older one has a key of its
-- own, as the id of an event without a task has: an id that a later one pushes out of the list, and that of an event
-- that comes late or from a worker whose clock is behind. So the record stays small, and an event whose id is in
-- neither place was never merged, however many events there are and whatever their clocks say.
--
-- @include work
-- @families event
-- @options success_ttl

local ID_SIZE, MAX_IDS = 12, 1000
local ids = { FORMAT = '>I6I6' } -- an id as two numbers, which Lua's numbers hold exactly

do
  local floor, unpack_id, FORMAT = math.floor, struct.unpack, ids.FORMAT
  local older, is_older = {}, {} -- ids of this call that get keys of their own

  local function keep_apart(id)
    older[#older + 1], is_older[id] = id, true
    will_write(TO_WRITE.index)
  end

  -- Whether the id at an index (from 0) of the sorted ids comes before the given id.
  local function id_before(seen, index, first, second)
    local known_first, known_second = unpack_id(FORMAT, seen, index * ID_SIZE + 1)
    if known_first ~= first then return known_first < first end
    return known_second < second
  end

  -- Adds an id. Returns the new ids, or nil if its event was merged before; then the id's place among them (from 0), or
  -- nil if it is not among them; and whether the first id made room for it. The ids are sorted by age, and no id in a
  -- key of its own is later than the first of them.
  function ids.add(seen, id)
    if seen == '' then return id, 0 end
    local count = #seen / ID_SIZE
    local first, second = unpack_id(FORMAT, id)
    local low, high = 0, count - 1
    if id_before(seen, high, first, second) then
      low = count
    elseif high > 0 then
      -- An event that comes out of order is rarely late by more than one place.
      if id_before(seen, high - 1, first, second) then low = high else high = high - 1 end
    end
    while low < high do
      local middle = floor((low + high) / 2)
      if id_before(seen, middle, first, second) then
        low = middle + 1
      else
        high = middle
      end
    end
    local offset = low * ID_SIZE
    if low < count and string.sub(seen, offset + 1, offset + ID_SIZE) == id then
      return nil
    end
    if count >= MAX_IDS then
      if low == 0 then
        if is_older[id] or redis.call('EXISTS', families.event .. id) == 1 then return nil end
        keep_apart(id)
        return seen
      end
      keep_apart(string.sub(seen, 1, ID_SIZE))
      return string.sub(seen, ID_SIZE + 1, offset) .. id .. string.sub(seen, offset + 1), low - 1, true
    end
    return string.sub(seen, 1, offset) .. id .. string.sub(seen, offset + 1), low
  end

  -- Written after the records: if this call fails in between, events are merged twice rather than never.
  function ids.write_older()
    for _, id in ipairs(older) do redis.call('SET', families.event .. id, '', 'EX', options.success_ttl) end
  end
end
