-- The fencing tokens of instances.
--
-- @include clock numbers stored trouble
-- @keys leases tokens

local MAX_TOKEN = 2 ^ 52 -- leaves room for later tokens, each a number that Lua holds exactly

-- The last token issued; 0 if there is none, or it cannot be read.
local function last_token()
  return number_in(unless_foreign('GET', keys.tokens) or '', MAX_TOKEN) or 0
end

-- A new token, as text: higher than all before. It is a time, so that it is new even if Redis lost its data: an
-- instance that had the token 1 before must not take itself for the one that has it now.
local function new_token()
  local last = stored_number(keys.tokens, unless_foreign('GET', keys.tokens), MAX_TOKEN)
  if last == nil then
    last = 0
    for _, token in ipairs(redis.call('ZRANGE', keys.leases, 0, -1)) do
      last = math.max(last, number_in(token, MAX_TOKEN) or 0)
    end
  end
  local token = string.format('%.0f', math.max(last + 1, now))
  redis.call('SET', keys.tokens, token)
  return token
end
