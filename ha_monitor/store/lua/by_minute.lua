-- Counts by minute: a hash for each name and hour, `<hour since the epoch>:<name>`, with a field for each minute in
-- which something happened.
--
-- @include trouble

local by_minute = {}

do
  local hour_texts = {} -- family -> hour -> the beginning of a key, since converting a number to text is slow

  -- The key of a name in an hour.
  function by_minute.key_of(family, name, hour)
    local texts = hour_texts[family]
    if not texts then
      texts = {}
      hour_texts[family] = texts
    end
    local text = texts[hour]
    if not text then
      text = family .. string.format('%d:', hour)
      texts[hour] = text
    end
    return text .. name
  end

  -- The value of a field, or false. A key that is not a hash is useless, and is deleted.
  function by_minute.cell_in(key, field)
    local reply = redis.pcall('HGET', key, field)
    if type(reply) ~= 'table' or not reply.err then return reply end
    refused(key, reply.err)
    if string.sub(reply.err, 1, 9) == 'WRONGTYPE' then attempt('DEL', key) end
    return false
  end
end
