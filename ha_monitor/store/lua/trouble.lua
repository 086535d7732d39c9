-- What Redis refuses, and what the script then does without.

local trouble -- what that was first, or nil; the caller reports it

local function refused(key, why)
  trouble = trouble or key .. ': ' .. why
end

-- A command that the script can do without: nil if Redis refuses it.
local function attempt(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) == 'table' and reply.err then
    refused(key, reply.err)
    return nil
  end
  return reply
end

-- A command whose reply is needed, unless the key holds what is not of our making: nil then.
local function unless_foreign(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  if string.sub(reply.err, 1, 9) ~= 'WRONGTYPE' then error(reply.err) end
  refused(key, reply.err)
  return nil
end
