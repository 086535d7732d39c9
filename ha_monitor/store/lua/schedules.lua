-- Writes what was found out of schedules: what they are, what came of their due times, and of which times the fleet has
-- all events. A duty of the leader. Repeating it changes nothing.
--
-- @include duty pieces
-- @keys schedules schedule_runs schedule_sources schedule_habits schedule_coverage
-- @option judged  {name, schedule as JSON, …}
-- @option due_times  {name, its latest due times as JSON, …} of the same schedules
-- @option dropped  {name, …} of those that there are no longer
-- @option asked  {source, what it said as JSON, …}
-- @option habits  {task, when it ran lately as JSON, …}
-- @option unlearned  {task, …} of which that is kept no longer
-- @option coverage  of which times the fleet has all events, as JSON; nil to leave that as it is
--
-- Returns 1. Nothing if the caller does not lead; or the error LEASELOST.

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
