-- Merges a batch of events and adds their announcements to the caller's outbox. Atomic and idempotent: repeating a call
-- changes nothing and announces nothing, even after a call that failed half-way (outbox.lua). The script reads and
-- computes everything first; then `commit` writes it.
--
-- An instance may have several calls in flight. If one merges only a part of its batch, the rest must be merged before
-- any later batch: a call that was sent before the instance knew of the rest merges nothing.
--
-- @include briefs counting error_groups index/flow index/indexes lease outbox tables merge/open_tasks merge/others
-- @include merge/activity merge/producers merge/run_times merge/tally merge/tasks merge/waiting merge/workers
-- @include statistics stored trouble worker_runs
-- @keys instance
-- @options tasks calls
--
-- Returns {sequence number of the first item, items, number of new events, number of repeated events, number of tasks
-- with waiting announcements or counts, how many tasks of the batch are merged}, or the error LEASELOST. The last
-- number is lower than the batch's if the records are large and would block Redis for long; then nothing after these
-- tasks is merged. It is -1 if nothing at all is merged, because an earlier call left a rest.

-- A record must be in the indexes before it exists, so that every record can be found by them.
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
