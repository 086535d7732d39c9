-- Every call of an instance is made under its lease, which its fencing token names: once another instance has taken
-- over its outbox, the call changes nothing.
--
-- @include counted rollback stored takeovers trouble
-- @keys instance leases
-- @families instance
-- @option token  the caller's fencing token, as text
-- @option calls  how many of its calls under this lease were confirmed

local holding_lease

do
  -- Counts the call. Returns the number of calls including this one; when the store was last found to have gone back to
  -- an earlier state; and, if this call found it, what to report about it.
  local function count_call()
    local counted = stored_number(keys.instance, unless_foreign('HGET', keys.instance, 'calls')) or 0
    local lost, report = options.calls - counted, nil
    if lost > 0 then
      local seen = stored_number(keys.instance, unless_foreign('HGET', keys.instance, 'seen'))
      report = rollback.note(seen, lost)
    end
    local calls = math.max(counted, options.calls) + 1
    -- A call whose count Redis refuses to store is not counted: otherwise the next call would find it missing.
    if not attempt('HSET', keys.instance, 'calls', calls) then calls = counted end
    return { calls, rollback.at(), report }
  end

  -- Why the caller no longer has a lease, as a word that store/own_state.py explains.
  local function why_lost()
    if takeovers.of(options.token) then return 'TAKEN_OVER' end
    for _, token in ipairs(redis.call('ZRANGE', keys.leases, 0, -1)) do
      if unless_foreign('HGET', families.instance .. token, 'before') == options.token then return 'MOVED' end
    end
    return 'FORGOTTEN'
  end

  -- Does the work of a call, which gets the call's number. Without the lease, the reply is `otherwise`, or the error
  -- LEASELOST. All replies are {what Redis refused, or which value is foreign, if the call continued without it, else
  -- an empty text; what was counted, see counted.lua; the result of count_call; what the script's header says}.
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
