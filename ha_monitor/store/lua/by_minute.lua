-- Where something is counted by minute: a hash for each of its names and hour, `<hour since the epoch>:<name>`, with a
-- field for each minute in which anything was.
--
-- @include trouble

local by_minute = {}

do
  local hour_texts = {} -- family -> hour -> the beginning of a key, since making a text of a number takes long

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

  -- What a field holds, or false. What is no hash is of no use to anybody, and goes.
  function by_minute.cell_in(key, field)
    local reply = redis.pcall('HGET', key, field)
    if type(reply) ~= 'table' or not reply.err then return reply end
    refused(key, reply.err)
    if string.sub(reply.err, 1, 9) == 'WRONGTYPE' then attempt('DEL', key) end
    return false
  end
end
