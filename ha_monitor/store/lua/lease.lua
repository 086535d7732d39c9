-- Every call of an instance is made under its lease, which its token names: once another instance has taken its outbox
-- over, it changes nothing any more.
--
-- @include counted rollback stored takeovers trouble
-- @keys instance leases
-- @families instance
-- @option token  the caller's fencing token, as text
-- @option calls  how many of its calls under this lease were confirmed

local holding_lease

do
  -- Counts the call. Returns how many there were with this one; when the store was last found to have gone back, and
  -- where this call has found it, what is to be told of that.
  local function count_call()
    local counted = stored_number(keys.instance, unless_foreign('HGET', keys.instance, 'calls')) or 0
    local lost, told = options.calls - counted, nil
    if lost > 0 then
      local seen = stored_number(keys.instance, unless_foreign('HGET', keys.instance, 'seen'))
      told = rollback.note(seen, lost)
    end
    local calls = math.max(counted, options.calls) + 1
    -- What is refused is not counted: the next call would find it missing.
    if not attempt('HSET', keys.instance, 'calls', calls) then calls = counted end
    return { calls, rollback.at(), told }
  end

  -- Why the caller has no lease any more; store/own_state.py has it in words.
  local function why_lost()
    if takeovers.of(options.token) then return 'TAKEN_OVER' end
    for _, token in ipairs(redis.call('ZRANGE', keys.leases, 0, -1)) do
      if unless_foreign('HGET', families.instance .. token, 'before') == options.token then return 'MOVED' end
    end
    return 'FORGOTTEN'
  end

  -- Does the work of a call, which is given its number; without the lease, the reply is `otherwise`, or the error
  -- LEASELOST. All replies are {what Redis refused or what is not of the program's making, if the call did without it,
  -- or an empty text; what was counted, as counted.lua says; what count_call returns; what the script says that it
  -- returns}.
  function holding_lease(work, otherwise)
    if redis.call('ZSCORE', keys.leases, options.token) == false then
      if otherwise then return { '', {}, {}, otherwise } end
      return redis.error_reply('LEASELOST ' .. why_lost())
    end
    local call = count_call()
    local reply = work(call[1])
    return { trouble or '', counted_reply(), call, reply }
  end
end
