-- Reads values. A foreign or broken value counts as absent, so only its own content is lost, and the reply names its
-- key.
--
-- @include clock numbers trouble work

local BROKEN = 'the value is broken'
local LATEST = 86400000 -- ms by which Redis's clock may have been put back

-- The parts of a MessagePack value in Redis; nil if it does not exist or is broken.
-- raw: the value, or false if there is none, if the caller has read it already.
local function load_packed(key, raw)
  -- A read that Redis refuses raises an error: only an absent or foreign value may be overwritten.
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

-- A text in Redis as a whole number from 0 to `most` (numbers.lua); nil if there is none, or it is not such a number.
local function stored_number(key, text, most)
  if not text then return nil end
  local number = number_in(text, most)
  if not number then refused(key, BROKEN) end
  return number
end

-- The same for a time in ms: the program writes no time that is more than some seconds in the future.
local function stored_time(key, text)
  return stored_number(key, text, now + LATEST)
end
