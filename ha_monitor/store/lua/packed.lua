-- The facts of a task (record.lua) as MessagePack: all of them for its record, and for an event's line a version that
-- leaves out or replaces facts of other runs (runs.lua). The part that all these texts share is packed once.

local packed = {}

do
  local next, unpack, pack, byte, sub = next, unpack, cmsgpack.pack, string.byte, string.sub
  local EMPTY = '\128' -- an empty map; cmsgpack would write an array
  local MAX_FIXED = 15 -- entries of a map whose count fits into its first byte
  local map_heads = {} -- number of entries -> MessagePack header
  local queues = {} -- queue -> its key and value, packed

  local function map_head(count)
    local head = map_heads[count]
    if not head then
      head = count <= MAX_FIXED and string.char(128 + count) or struct.pack('>BI2', 222, count)
      map_heads[count] = head
    end
    return head
  end

  -- The number of entries of a map, and the packed entries.
  local function entries_of(map)
    if next(map) == nil then return 0, '' end
    local text = pack(map)
    local first, high, low = byte(text, 1, 3)
    if first <= 128 + MAX_FIXED then return first - 128, sub(text, 2) end
    return high * 256 + low, sub(text, 4)
  end

  local function queue_text(queue)
    if not queue then return '' end
    local text = queues[queue]
    if not text then
      text = '\161q' .. pack(queue)
      queues[queue] = text
    end
    return text
  end

  -- All facts.
  function packed.whole(facts)
    local defined = facts.d
    if defined == nil or defined ~= facts.rl then return next(facts) and pack(facts) or EMPTY end
    facts.d = true -- saves 8 bytes in most tasks
    local text = pack(facts)
    facts.d = defined
    return text
  end

  -- Of the task that was packed last: its packed facts; the number of entries that are the same for all runs, and these
  -- entries, packed.
  local packed_last, size, body
  local without_queue, with_queue -- results of `without_wait` for it

  -- In a task without several attempts, everything but the wait and the queue is the same for all events.
  local function split(facts)
    local defined, wait, queue = facts.d, facts.qw, facts.q
    local is_short = defined ~= nil and defined == facts.rl
    if is_short then facts.d = true end
    if wait then facts.qw = nil end
    if queue then facts.q = nil end
    size, body = entries_of(facts)
    if is_short then facts.d = defined end
    if wait then facts.qw = wait end
    if queue then facts.q = queue end
    without_queue, with_queue = nil, nil
  end

  -- In a task with several attempts, everything about attempts and runs differs. Returns that part.
  local function split_attempts(facts)
    local at, rs, cl, re, st, q, e = facts.at, facts.rs, facts.cl, facts.re, facts.st, facts.q, facts.e
    local sl, rl, qw, d = facts.sl, facts.rl, facts.qw, facts.d
    -- Even assigning nil would enlarge the table, so absent values are not set.
    facts.at, facts.rs = nil, nil
    if cl then facts.cl = nil end
    if re then facts.re = nil end
    if st then facts.st = nil end
    if q then facts.q = nil end
    if e then facts.e = nil end
    if sl then facts.sl = nil end
    if rl then facts.rl = nil end
    if qw then facts.qw = nil end
    if d then facts.d = nil end
    size, body = entries_of(facts)
    facts.at, facts.rs = at, rs
    if cl then facts.cl = cl end
    if re then facts.re = re end
    if st then facts.st = st end
    if q then facts.q = q end
    if e then facts.e = e end
    if sl then facts.sl = sl end
    if rl then facts.rl = rl end
    if qw then facts.qw = qw end
    if d then facts.d = d end
    if d and d == rl then d = true end
    return { at = at, rs = rs, cl = cl, re = re, st = st, q = q, e = e, sl = sl, rl = rl, qw = qw, d = d }
  end

  -- All facts, if other versions of them will be packed, too.
  function packed.first(facts)
    if facts.at then
      local count, entries = entries_of(split_attempts(facts))
      packed_last = map_head(size + count) .. body .. entries
    else
      split(facts)
      local wait, queue = facts.qw, facts.q
      local count = size + (wait and 1 or 0) + (queue and 1 or 0)
      local wait_text = wait and '\162qw' .. pack(wait) or ''
      packed_last = map_head(count) .. body .. queue_text(queue) .. wait_text
    end
    return packed_last
  end

  -- The facts of a task without several attempts, without the wait and, if leaves_queue, without the queue.
  -- facts_text: all of them, packed.
  function packed.without_wait(facts, facts_text, leaves_queue)
    if facts_text ~= packed_last then
      split(facts)
      packed_last = facts_text
    end
    if leaves_queue or not facts.q then
      without_queue = without_queue or map_head(size) .. body
      return without_queue
    end
    with_queue = with_queue or map_head(size + 1) .. body .. queue_text(facts.q)
    return with_queue
  end

  -- Adds a queue to packed facts that have none.
  function packed.with_queue(text, queue)
    local first, high, low = byte(text, 1, 3)
    if first <= 128 + MAX_FIXED then return map_head(first - 127) .. sub(text, 2) .. queue_text(queue) end
    return map_head(high * 256 + low + 1) .. sub(text, 4) .. queue_text(queue)
  end

  -- A key in MessagePack followed by the type byte of an 8-byte number, all as one number.
  local function mark_of(name)
    local text = string.char(160 + #name) .. name .. '\207'
    return (struct.unpack('>I' .. #text, text))
  end

  local RE, ST, SL, RL, QW, E, D = mark_of('re'), mark_of('st'), mark_of('sl'), mark_of('rl'), mark_of('qw'),
    mark_of('e'), mark_of('d')
  local numbers = {} -- a mark, its number, …
  local formats = {} -- values of two-letter keys and their marks -> all of them -> struct format

  local function format_of(long, all)
    local of_long = formats[long]
    if not of_long then
      of_long = {}
      formats[long] = of_long
    end
    if not of_long[all] then
      of_long[all] = '>' .. string.rep('I4I8', long / 2) .. string.rep('I3I8', (all - long) / 2)
    end
    return of_long[all]
  end

  -- The facts of a task with several attempts, with these values (see record.lua) instead of its own; each may be nil.
  -- facts_text: all of them, packed.
  function packed.of_run(facts, facts_text, re, st, sl, rl, qw, e, q)
    if facts_text ~= packed_last then
      split_attempts(facts)
      packed_last = facts_text
    end
    local count, defined = 0, facts.d
    if re then numbers[1], numbers[2], count = RE, re, 2 end
    if st then numbers[count + 1], numbers[count + 2], count = ST, st, count + 2 end
    if sl then numbers[count + 1], numbers[count + 2], count = SL, sl, count + 2 end
    if rl then numbers[count + 1], numbers[count + 2], count = RL, rl, count + 2 end
    if qw then numbers[count + 1], numbers[count + 2], count = QW, qw, count + 2 end
    local long = count
    if e then numbers[count + 1], numbers[count + 2], count = E, e, count + 2 end
    if defined then numbers[count + 1], numbers[count + 2], count = D, defined, count + 2 end
    local text = struct.pack(format_of(long, count), unpack(numbers, 1, count))
    return map_head(size + count / 2 + (q and 1 or 0)) .. body .. text .. queue_text(q)
  end
end
