-- Which Redis the fleet uses, and since when.
--
-- @include clock numbers stored tokens trouble
-- @keys served

local served_since

do
  -- A text that is another one after each start of a Redis, and after each fail-over. Empty if INFO is forbidden.
  local function server_id()
    local found = ''
    for _, part in ipairs({ { 'server', 'run_id:(%x+)' }, { 'replication', 'master_replid:(%x+)' } }) do
      local reply = redis.pcall('INFO', part[1])
      found = found .. (type(reply) == 'string' and string.match(reply, part[2]) or '')
    end
    return found
  end

  -- Since when the fleet uses this Redis, as a token: the first time at which an instance connected after its latest
  -- start or fail-over. What was confirmed before may be lost. 0 if the fleet used none before; now if INFO is
  -- forbidden. Must be called before a new token is made.
  function served_since()
    local id, known = server_id(), load_packed(keys.served)
    if id ~= '' and known and known[1] == id then return whole(known[2], MAX_TOKEN) end
    local last = last_token()
    local since = last > 0 and math.max(now, last) or 0
    if id ~= '' then attempt('SET', keys.served, cmsgpack.pack({ id, since })) end
    return since
  end
end
