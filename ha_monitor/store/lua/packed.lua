-- The facts of a task (record.lua) as MessagePack: all of them for its record, and what an event's line says of them,
-- which leaves out or replaces what is of other runs (runs.lua). What all these texts have in common is packed once.

local packed = {}

do
  local next, unpack, pack, byte, sub = next, unpack, cmsgpack.pack, string.byte, string.sub
  local EMPTY = '\128' -- a map; cmsgpack would write an array
  local LONGEST_FIXED = 15 -- entries of a map whose number is in the byte before it
  local map_heads = {} -- how many entries -> what stands before them
  local queues = {} -- queue -> it and its name, packed

  local function map_head(count)
    local head = map_heads[count]
    if not head then
      head = count <= LONGEST_FIXED and string.char(128 + count) or struct.pack('>BI2', 222, count)
      map_heads[count] = head
    end
    return head
  end

  -- How many entries a map has, and these packed.
  local function entries_of(map)
    if next(map) == nil then return 0, '' end
    local text = pack(map)
    local first, high, low = byte(text, 1, 3)
    if first <= 128 + LONGEST_FIXED then return first - 128, sub(text, 2) end
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

  -- The facts.
  function packed.whole(facts)
    local defined = facts.d
    if defined == nil or defined ~= facts.rl then return next(facts) and pack(facts) or EMPTY end
    facts.d = true -- 8 bytes less, of most tasks
    local text = pack(facts)
    facts.d = defined
    return text
  end

  -- Of the task that was packed last: its facts as text, and how many entries those have that are the same for all
  -- runs, and these packed.
  local packed_last, size, body
  local without_queue, with_queue -- what `without_wait` gave of it

  -- Of a task without several attempts, all but the wait and the queue are the same.
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

  -- Of one with several, all that belongs to attempts and runs differs. Returns that.
  local function split_attempts(facts)
    local at, rs, cl, re, st, q, e = facts.at, facts.rs, facts.cl, facts.re, facts.st, facts.q, facts.e
    local sl, rl, qw, d = facts.sl, facts.rl, facts.qw, facts.d
    -- Even a nil would enlarge the table, so what is not there is not set.
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

  -- The facts, where more texts of them are to be made.
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

  -- The facts of a task without several attempts, but for the wait and, if so asked, for the queue.
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

  -- Facts without a queue, packed, with one.
  function packed.with_queue(text, queue)
    local first, high, low = byte(text, 1, 3)
    if first <= 128 + LONGEST_FIXED then return map_head(first - 127) .. sub(text, 2) .. queue_text(queue) end
    return map_head(high * 256 + low + 1) .. sub(text, 4) .. queue_text(queue)
  end

  -- A name as MessagePack has it, and the mark of a number of eight bytes, as a number.
  local function mark_of(name)
    local text = string.char(160 + #name) .. name .. '\207'
    return (struct.unpack('>I' .. #text, text))
  end

  local RE, ST, SL, RL, QW, E, D = mark_of('re'), mark_of('st'), mark_of('sl'), mark_of('rl'), mark_of('qw'),
    mark_of('e'), mark_of('d')
  local numbers = {} -- a mark, the number behind it, …
  local formats = {} -- how many of them with a name of two letters -> how many in all -> what packs them

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

  -- The facts of a task with several attempts, with these instead of its own, each as record.lua has it, or nil.
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
