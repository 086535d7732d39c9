-- Merges a batch of events, and puts what is to be announced into the caller's outbox. Atomic; repeating it
-- changes nothing and announces nothing, also after a call that failed half-way (outbox.lua). First everything is read
-- and computed; then `commit` writes it.
--
-- @include counting lease outbox tables merge/open_tasks merge/others merge/activity merge/producers
-- @include merge/run_times merge/tally merge/tasks merge/waiting merge/workers
-- @options tasks
--
-- Returns {sequence number of the first item, items, events new, events repeated, announcements that wait, how many of
-- the tasks are merged} or the error LEASELOST. If their records are large, so that Redis would be held for long, these
-- are not all of them, and nothing behind them is merged.

-- What can be found by an index must be in it before it is there.
local function write_indexes()
  waiting.write()
  open_tasks.write()
end

local function write_rest()
  waiting.forget()
  others.write()
  workers.write()
  producers.write()
  activity.write()
  open_tasks.forget()
  run_times.write()
  if counting then write_counts() end
  write_refusals()
end

return holding_lease(function()
  begin()
  waiting.begin()
  open_tasks.begin()
  local merged = merge_tasks()
  if merged == #options.tasks then
    workers.merge()
    others.merge()
  end
  workers.note_heard()
  local first = commit(write_indexes, write_rest)
  return { first, items, new_events, repeated_events, waiting.count(), merged }
end)
