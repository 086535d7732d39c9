-- The reports of the latest takeovers, as JSON, which tick.lua writes.
--
-- @include clock trouble
-- @keys takeovers

local takeovers = {}

do
  local function read(report)
    local good, decoded = pcall(cjson.decode, report)
    return good and type(decoded) == 'table' and decoded or {}
  end

  -- When an outbox was last taken over, in ms since the epoch; nil if no takeover is known.
  function takeovers.latest()
    local at = tonumber(read(attempt('LINDEX', keys.takeovers, 0) or '').at)
    -- A time in the future is a foreign value, or from before Redis's clock was put back.
    return at and at <= now and at or nil
  end

  -- The report of the takeover in which an instance lost its outbox; nil if there is none.
  function takeovers.of(token)
    for _, report in ipairs(unless_foreign('LRANGE', keys.takeovers, 0, -1) or {}) do
      local decoded = read(report)
      if decoded.token == token then return decoded end
    end
    return nil
  end
end
