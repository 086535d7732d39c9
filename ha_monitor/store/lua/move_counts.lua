-- Moves counts to other labels. Atomic and idempotent. No count is lost or doubled, whichever command Redis refuses.
--
-- @include clock counted lease numbers trouble
-- @keys counts counting label_sets gone...
-- @options failure_ttl
-- @option moves  {{field, field to which its number is added}, …}; some hundred at most
-- @option forgotten  label sets that no instance counts any longer: {<name>\31<worker>\31<queue>, …}
-- @option gone  {name, ms}: moves the counts of this instance instead of the caller's, if it has not been heard of for
--         so long; or nil
--
-- Returns 1, or 0 if that instance is not gone; or the error LEASELOST.

-- The values of fields of a hash: field -> text; nil if Redis refuses to read them.
local function texts_of(key, fields)
  local found = attempt('HMGET', key, unpack(fields))
  if not found then return nil end
  local texts = {}
  for index, field in ipairs(fields) do texts[field] = found[index] or nil end
  return texts
end

local function set_all(texts)
  local flat = {}
  for field, text in pairs(texts) do
    flat[#flat + 1], flat[#flat + 2] = field, text
  end
  return attempt('HSET', keys.counts, unpack(flat))
end

-- Computes the moves: the new values of the caller's fields, and which fields of the source become empty.
local function sums(source, moves, found, before)
  local own, numbers, taken = source == keys.counts, {}, {}
  local function number_of(field)
    return numbers[field] or number_in(before[field] or '') or 0
  end
  for _, move in ipairs(moves) do
    local field, target = move[1], move[2]
    if found[field] and not (own and field == target) then
      local number = own and number_of(field) or number_in(found[field]) or 0
      found[field] = nil
      if own then numbers[field] = 0 else taken[#taken + 1] = field end
      numbers[target] = math.min(number_of(target) + number, MAX_COUNT)
    end
  end
  if own then
    for field, number in pairs(numbers) do
      if number == 0 then taken[#taken + 1] = field end
    end
  end
  return numbers, taken
end

local function move_all(source, moves)
  local from, both = {}, {}
  for _, move in ipairs(moves) do
    from[#from + 1] = move[1]
    both[#both + 1], both[#both + 2] = move[1], move[2]
  end
  local found, before = texts_of(source, from), texts_of(keys.counts, both)
  if not found or not before then return end
  local numbers, taken = sums(source, moves, found, before)
  if #taken == 0 then return end
  local after = {}
  for field, number in pairs(numbers) do after[field] = string.format('%.0f', number) end
  -- In the caller's own hash, this one command both adds the numbers and sets the moved fields to 0.
  if not set_all(after) then return end
  local is_deleted = attempt('HDEL', source, unpack(taken))
  if source == keys.counts then
    if is_deleted then
      for _, field in ipairs(taken) do after[field] = '' end
    end
  elseif not is_deleted then
    for field in pairs(after) do after[field] = before[field] or '0' end
    set_all(after)
  end
  for field, text in pairs(after) do note_counted(field, text) end
end

return holding_lease(function()
  local source, gone = keys.counts, options.gone
  if gone then
    local heard = tonumber(attempt('ZSCORE', keys.counting, gone[1]) or nil)
    if heard and now - heard < gone[2] then return 0 end
    source = keys.gone[1]
  end
  if #options.moves > 0 then
    move_all(source, options.moves)
    attempt('EXPIRE', keys.counts, options.failure_ttl)
  end
  for _, label_set in ipairs(options.forgotten) do attempt('ZREM', keys.label_sets, label_set) end
  if gone and attempt('HLEN', source) == 0 then attempt('ZREM', keys.counting, gone[1]) end
  return 1
end)
