-- Lists of ids, newest first.
--
-- @include pieces trouble

-- Puts ids at the beginning of a list; one that has become longer than `most` is cut to `kept`. A foreign value in its
-- place is reported and deleted: the program can do without everything in these lists.
local function push_ids(key, ids, most, kept)
  if #ids == 0 then return end
  local length
  in_pieces(ids, PUSH_AT_ONCE, function(...) length = attempt('LPUSH', key, ...) end)
  if length and length > most then
    redis.call('LTRIM', key, 0, kept - 1)
  elseif not length and redis.call('TYPE', key).ok ~= 'list' then
    redis.call('DEL', key)
  end
end
