-- Reads values, so that one that is not of the program's making costs nothing but what it says: it counts as absent,
-- and the reply says which key it was.
--
-- @include clock numbers trouble work

local BROKEN = 'the value is broken'
local LATEST = 86400000 -- ms by which Redis's clock may have been put back

-- The parts of a MessagePack value in Redis; nil if there is none, or if it is broken.
-- raw: the value, or false if there is none, where the caller has read it.
local function load_packed(key, raw)
  -- Only what is no value at all may be written over.
  if raw == nil then raw = unless_foreign('GET', key) end
  if type(raw) ~= 'string' then return nil end
  has_loaded(#raw)
  local good, first, second, third, fourth, fifth, sixth = pcall(cmsgpack.unpack, raw)
  if good and type(first) == 'table' then
    return first, second, third, fourth, fifth, sixth
  end
  refused(key, BROKEN)
  return nil
end

-- The whole number from 0 to `most` that a text in Redis says (numbers.lua); nil if there is none, or no such number.
local function stored_number(key, text, most)
  if not text then return nil end
  local number = number_in(text, most)
  if not number then refused(key, BROKEN) end
  return number
end

-- The same for a time in ms: the program writes none that is still to come, but for some seconds.
local function stored_time(key, text)
  return stored_number(key, text, now + LATEST)
end
