-- The latest takeovers, a list of JSON with the newest first. Put in front of the scripts that read it.

-- When the latest one was, in ms since the epoch; nil if there is none, or none that can be read.
local function latest_takeover(key)
  local latest = redis.call('LINDEX', key, 0)
  local readable, takeover = pcall(cjson.decode, latest or '')
  return readable and type(takeover) == 'table' and tonumber(takeover.at) or nil
end
