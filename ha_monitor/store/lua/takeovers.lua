-- @include clock trouble
-- @keys takeovers

-- When an outbox was taken over last, ms since the epoch; nil if none was, as far as is known.
local function latest_takeover()
  local good, report = pcall(cjson.decode, attempt('LINDEX', keys.takeovers, 0) or '')
  local at = good and type(report) == 'table' and tonumber(report.at) or nil
  -- What is still to come is none of ours, or from before Redis's clock was put back.
  return at and at <= now and at or nil
end
