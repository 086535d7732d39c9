-- What Redis refuses where the script can continue without it.

local trouble -- the first refusal, or nil; the caller reports it

local function refused(key, why)
  trouble = trouble or key .. ': ' .. why
end

-- Runs a command that the script can do without; nil if Redis refuses it.
local function attempt(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) == 'table' and reply.err then
    refused(key, reply.err)
    return nil
  end
  return reply
end

-- Runs a command whose reply is needed. Returns nil if the key holds a foreign type; any other error is raised.
local function unless_foreign(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  if string.sub(reply.err, 1, 9) ~= 'WRONGTYPE' then error(reply.err) end
  refused(key, reply.err)
  return nil
end
