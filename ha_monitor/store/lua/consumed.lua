-- The queue of a task whose producer sent no task-sent: the queue that its worker consumes, as the leader has written
-- it, or the default queue of the configuration.
--
-- @include trouble
-- @keys worker_queues
-- @options counting

local consumed = {}

do
  local default = options.counting and options.counting.default_queue
  local UNKNOWN = 'unknown'
  local MAX_NAME = 255 -- as for names in events
  local queue_of_worker = {} -- nodename -> the only queue that it consumes, or the default

  -- The queue for counts; 'unknown' if nothing is known. `worker` may be empty.
  function consumed.label(worker, is_producer)
    if is_producer or not worker or worker == '' then return default or UNKNOWN end
    local queue = queue_of_worker[worker]
    if not queue then
      queue = attempt('HGET', keys.worker_queues, worker) or default or UNKNOWN
      queue_of_worker[worker] = queue
    end
    return queue
  end

  -- The queue for lines; nil if nothing is known. Readers of lines rely on UTF-8, and the stored value may be anything,
  -- so a name beyond ASCII is left out.
  function consumed.queue(worker, is_producer)
    local queue = consumed.label(worker, is_producer)
    local is_plain = #queue <= MAX_NAME and string.find(queue, '^[\32-\126]+$')
    return queue ~= UNKNOWN and is_plain and queue or nil
  end
end
