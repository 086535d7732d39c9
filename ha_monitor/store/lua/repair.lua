-- Finds keys that hold another type, which no script can use, or a value that the program does not write, and sets them
-- aside if the fleet can continue without their content. Atomic.
--
-- @include numbers
-- @keys checked...
-- @option prefix  of all keys
-- @option aside  prefix of keys that were set aside
-- @option kept_for  seconds for which they are kept
-- @option expected  for each key {type, may_go = whether it may be set aside, number = field of the hash that holds a
--         number or an empty text, is_number = whether the string is a number}
--
-- Returns {{key, type found, where it is now or an empty text, the invalid value or an empty text}, …}.

local SHOWN = 50 -- bytes of a value

-- The text if it is not a number, else an empty text. Above 2 ^ 52, Lua would soon round it.
local function no_number(text)
  if not text then return '' end
  return number_in(text, 2 ^ 52) and '' or '"' .. string.sub(text, 1, SHOWN) .. '"'
end

local found = {}
for index, key in ipairs(keys.checked) do
  local is = redis.call('TYPE', key).ok
  local expected = options.expected[index]
  local wrong = ''
  if is == expected.type and expected.number ~= '' then
    wrong = no_number(redis.call('HGET', key, expected.number))
  end
  if is == expected.type and expected.is_number then wrong = no_number(redis.call('GET', key)) end
  if is ~= 'none' and (is ~= expected.type or wrong ~= '') then
    local aside = ''
    if expected.may_go then
      aside = options.aside .. string.sub(key, #options.prefix + 1)
      redis.call('RENAME', key, aside)
      redis.call('EXPIRE', aside, options.kept_for)
    end
    found[#found + 1] = { key, is, aside, wrong }
  end
end
return found
