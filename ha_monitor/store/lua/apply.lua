-- Merges a batch of events, and puts what is to be announced into the caller's outbox. Atomic; repeating it
-- changes nothing and announces nothing, also after a call that failed half-way (outbox.lua). First everything is read
-- and computed; then `commit` writes it.
--
-- Several calls of an instance may be under way. What one has left of its batch comes before what was handed over
-- behind it: a call that was made before the instance knew of it merges nothing.
--
-- @include briefs counting error_groups index/flow index/indexes lease outbox tables merge/open_tasks merge/others
-- @include merge/activity merge/producers merge/run_times merge/tally merge/tasks merge/waiting merge/workers
-- @include statistics stored trouble worker_runs
-- @keys instance
-- @options tasks calls
--
-- Returns {sequence number of the first item, items, events new, events repeated, announcements that wait, how many of
-- the tasks are merged} or the error LEASELOST. If their records are large, so that Redis would be held for long, these
-- are not all of them, and nothing behind them is merged. -1 instead of a number: nothing at all is merged, since an
-- earlier call has left something.

-- What can be found by an index must be in it before it is there.
local function write_indexes()
  waiting.write()
  open_tasks.write()
  indexes.write()
  briefs.write()
end

local function write_rest()
  briefs.mend()
  waiting.forget()
  others.write()
  workers.write()
  producers.write()
  activity.write()
  open_tasks.forget()
  run_times.write()
  error_groups.write()
  statistics.write()
  flow.write()
  worker_runs.write()
  if counting then write_counts() end
  write_refusals()
end

local function left_before()
  local left_by = stored_number(keys.instance, unless_foreign('HGET', keys.instance, 'left_by')) or 0
  return left_by > options.calls
end

return holding_lease(function(call)
  if left_before() then return { 0, {}, 0, 0, 0, -1 } end
  begin()
  waiting.begin()
  briefs.begin()
  open_tasks.begin()
  local merged = merge_tasks()
  if merged == options.tasks[1] then
    workers.merge()
    others.merge()
  end
  workers.note_heard()
  local first = commit(write_indexes, write_rest)
  if merged < options.tasks[1] then attempt('HSET', keys.instance, 'left_by', call) end
  return { first, items, tally.new, tally.repeated, waiting.count(), merged }
end)
