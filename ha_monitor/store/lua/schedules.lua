-- Writes what was found out about schedules: the schedules, what came of their due times, and for which times the fleet
-- has all events. A duty of the leader. Idempotent.
--
-- @include duty pieces
-- @keys schedules schedule_runs schedule_sources schedule_habits schedule_coverage
-- @option judged  {name, schedule as JSON, …}
-- @option due_times  {name, its latest due times as JSON, …} of the same schedules
-- @option dropped  {name, …} of schedules that no longer exist
-- @option asked  {source, its last answer as JSON, …}
-- @option habits  {task, its latest times as JSON, …}
-- @option unlearned  {task, …} whose habits are no longer kept
-- @option coverage  for which times the fleet has all events, as JSON; nil to leave that unchanged
--
-- Returns 1; false if the caller does not lead; or the error LEASELOST.

return leading(function()
  local function set(key, values)
    in_pieces(values, 2 * PUSH_AT_ONCE, function(...) redis.call('HSET', key, ...) end)
  end

  in_pieces(options.dropped, PUSH_AT_ONCE, function(...)
    redis.call('HDEL', keys.schedules, ...)
    redis.call('HDEL', keys.schedule_runs, ...)
  end)
  set(keys.schedule_runs, options.due_times)
  set(keys.schedules, options.judged)
  set(keys.schedule_sources, options.asked)
  in_pieces(options.unlearned, PUSH_AT_ONCE, function(...) redis.call('HDEL', keys.schedule_habits, ...) end)
  set(keys.schedule_habits, options.habits)
  if options.coverage then redis.call('SET', keys.schedule_coverage, options.coverage) end
  return 1
end)
