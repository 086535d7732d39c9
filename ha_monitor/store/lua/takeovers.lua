-- What is kept of the latest takeovers, as JSON: tick.lua writes it.
--
-- @include clock trouble
-- @keys takeovers

local takeovers = {}

do
  local function read(report)
    local good, told = pcall(cjson.decode, report)
    return good and type(told) == 'table' and told or {}
  end

  -- When an outbox was taken over last, ms since the epoch; nil if none was, as far as is known.
  function takeovers.latest()
    local at = tonumber(read(attempt('LINDEX', keys.takeovers, 0) or '').at)
    -- What is still to come is none of ours, or from before Redis's clock was put back.
    return at and at <= now and at or nil
  end

  -- What is told of the one in which an instance lost its outbox; nil if that is not known.
  function takeovers.of(token)
    for _, report in ipairs(unless_foreign('LRANGE', keys.takeovers, 0, -1) or {}) do
      local told = read(report)
      if told.token == token then return told end
    end
    return nil
  end
end
