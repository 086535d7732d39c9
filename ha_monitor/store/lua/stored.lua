-- Reads MessagePack values, so that a broken one costs nothing but what it says.
--
-- @include trouble work

-- The parts of a MessagePack value in Redis; nil if there is none, or if it is broken.
local function load_packed(key)
  -- Only what is no value at all may be written over.
  local raw = unless_foreign('GET', key)
  if type(raw) ~= 'string' then return nil end
  has_loaded(#raw)
  local good, first, second, third, fourth = pcall(cmsgpack.unpack, raw)
  if good and type(first) == 'table' then
    return first, second, third, fourth
  end
  refused(key, 'the value is broken')
  return nil
end
