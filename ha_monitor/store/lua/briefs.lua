-- Brief records: what is left of a successful task's record after `detail_ttl` s, if it ran once and has few events. A
-- brief record keeps everything that decides how a late or repeated event is merged, so the result is the same as with
-- the whole record; only arguments, root, parent and custom events are gone. Any other task keeps its record.
--
-- A key of its own would take more memory than most tasks' content. So hashes hold some ten tasks each, small enough
-- that Redis keeps a hash as one piece of memory: task id (of a UUID its 16 bytes) -> text, in big-endian order:
--   s since the epoch when it was written (4 bytes), flags (1), numbers of name, queue and worker (2 each, 0 for none),
--   when it succeeded in µs (7); then, for those whose flags are set: when it was sent, received and started, as the
--   time of success less this one plus BIAS (5 each), the run time (a double), the eta (5, likewise); and 4 bytes of
--   the id of each event
--
-- The brief record is written together with the whole one, which expires first; so no sweep is needed. The number of
-- hashes follows the number of tasks: when one is full, a new generation with more hashes begins, and the one before is
-- searched until everything in it has expired. Each generation has a hash that numbers texts: '>' .. text -> number,
-- '<' .. number -> text.
--
-- @include clock generated/catalogue ids numbers pieces runs stored trouble work
-- @keys briefs
-- @families brief brief_texts task
-- @options success_ttl
-- @option detail_ttl  s for which the whole record of a successful task is kept; nil to have no brief records

local briefs

do
  local FIRST_SIZE, GROWTH, LAST_SIZE = 256, 8, 2 ^ 23 -- hashes of a generation
  -- Tasks in a hash above which a new generation is due, which Redis 7 still keeps in one piece; tasks above which a
  -- hash takes no more; and after how many tasks one hash is checked for this.
  local CROWDED, FULL, A_LOOK = 96, 1000, 8
  local MAX_ID, MAX_TEXT, MAX_IDS_SIZE = 64, 64, 5 * ID_SIZE -- bytes up to which Redis keeps a hash in one piece
  local MAX_TEXTS, MAX_GENERATIONS = 20000, 6
  local SPARE = 1.125 -- a hash lives so much longer than its entries, and is swept when its TTL falls below theirs
  local BIAS, MAX_APART = 2 ^ 39, 2 ^ 39 - 1 -- µs, six days
  local UUID = '^' .. string.rep('[0-9a-f]', 8) .. string.rep('%-[0-9a-f][0-9a-f][0-9a-f][0-9a-f]', 4)
    .. string.rep('[0-9a-f]', 8) .. '$'
  local NEED_NOT_BE = { n = true, a = true, k = true, r = true, p = true, e = true, o = true, d = true, st = true,
    q = true, rc = true, rl = true, sc = true, sl = true, w = true, tc = true, tk = true, tt = true, rt = true,
    qw = true, sh = true }
  local HAS_SENT, HAS_RECEIVED, HAS_STARTED, HAS_RUN_TIME, HAS_ETA, DEFINED_BY_SENT, IS_OTHER = 1, 2, 4, 8, 16, 32, 64
  local detail_ttl, success_ttl = options.detail_ttl, options.success_ttl
  local life = math.ceil(success_ttl * SPARE)
  local now_s = math.floor(now / 1000)

  -- {number, number of hashes, since (ms), when everything in it has expired (ms) or 0}, newest first.
  local generations = {}
  local is_begun, is_broken, is_crowded, lacks_texts = false, false, false, false
  local entries, size = {}, 0 -- task id, its place, its field, its text, …
  local failed = {} -- ids of tasks whose brief records could not be written
  local numbers, texts, new_texts, most_known = {}, {}, {}, nil

  local function is_generation(one)
    if type(one) ~= 'table' then return false end
    for index = 1, 4 do
      local value = one[index]
      if type(value) ~= 'number' or value < 0 or value > MAX_COUNT or value % 1 ~= 0 then return false end
    end
    return one[2] >= 1
  end

  -- Called before all others.
  local function begin()
    local raw = unless_foreign('GET', keys.briefs)
    if not raw then return end
    local good, known = pcall(cmsgpack.unpack, raw)
    is_broken = not good or type(known) ~= 'table'
    for _, one in ipairs(is_broken and {} or known) do
      is_broken = is_broken or not is_generation(one)
      if not is_broken and (one[4] == 0 or one[4] > now) then generations[#generations + 1] = one end
    end
    if is_broken then
      refused(keys.briefs, BROKEN)
      generations = {}
    end
    is_begun = #generations > 0
  end

  -- Whether there may be any brief records.
  local function are_any()
    return #generations > 0
  end

  -- The field of a task in its hash, and a number that selects the hash in each generation; nil if it can have none.
  local function place_of(uuid)
    if #uuid == 36 and string.find(uuid, UUID) then
      local first = tonumber(string.sub(uuid, 1, 8), 16)
      local second = tonumber(string.sub(uuid, 10, 13) .. string.sub(uuid, 15, 18), 16)
      local third = tonumber(string.sub(uuid, 20, 23) .. string.sub(uuid, 25, 28), 16)
      local fourth = tonumber(string.sub(uuid, 29), 16)
      return struct.pack('>I4I4I4I4', first, second, third, fourth), (first + second + third + fourth) % 2 ^ 32
    elseif #uuid == 16 or #uuid > MAX_ID then
      return nil
    end
    return uuid, tonumber(string.sub(redis.sha1hex(uuid), 1, 8), 16)
  end

  local function key_in(generation, place)
    return families.brief .. string.format('%d:%d', generation[1], place % generation[2])
  end

  local function texts_of(generation)
    return families.brief_texts .. string.format('%d', generation[1])
  end

  local function mark_of(id, at)
    return (struct.unpack('>I4', id, at + ID_SIZE - 4))
  end

  -- The number of a text; 0 for nil; nil if it has none and there is no room for one.
  local function number_of(text)
    if not text then return 0 end
    local number = numbers[text]
    if number ~= nil then return number or nil end
    local key = texts_of(generations[1])
    local known = attempt('HGET', key, '>' .. text)
    if known then
      number = number_in(known, MAX_TEXTS)
    elseif known == false then
      most_known = most_known or attempt('HLEN', key)
      if most_known and most_known / 2 < MAX_TEXTS then
        most_known = most_known + 2
        number = most_known / 2
        new_texts[#new_texts + 1], new_texts[#new_texts + 2] = '>' .. text, number
        new_texts[#new_texts + 1], new_texts[#new_texts + 2] = '<' .. string.format('%d', number), text
        will_write(TO_WRITE.name)
      elseif most_known then
        lacks_texts = true
      end
    end
    numbers[text] = number or false
    return number
  end

  local function text_of(generation, number)
    if number == 0 then return nil end
    local key = texts_of(generation)
    local known = texts[key]
    if not known then
      known = {}
      texts[key] = known
    end
    if known[number] == nil then known[number] = attempt('HGET', key, '<' .. string.format('%d', number)) or false end
    return known[number] or nil
  end

  -- The marks of all events of a task.
  local function marks_of(facts, seen)
    local marks = {}
    for _, mark in ipairs(facts.sh or {}) do marks[#marks + 1] = mark end
    for at = 1, #seen, ID_SIZE do marks[#marks + 1] = mark_of(seen, at) end
    return marks
  end

  local function is_brief(facts)
    if facts.tc ~= 1 or facts.tt <= 0 or (facts.rc or 1) ~= 1 or (facts.sc or 1) ~= 1 then return false end
    for key in next, facts do
      if not NEED_NOT_BE[key] then return false end
    end
    return facts.n and facts.d and (facts.d == facts.st or facts.d == facts.rl)
  end

  -- A task as text; nil if it does not fit.
  local function packed(facts, seen)
    local flags, ended, values, format = 0, facts.tt, {}, '>I4BI2I2I2I7'
    local fits = true
    local function add_time(at, flag)
      if not at then return end
      local apart = ended - at
      fits = fits and apart > -MAX_APART and apart < MAX_APART
      flags, format = flags + flag, format .. 'I5'
      values[#values + 1] = apart + BIAS
    end
    add_time(facts.st, HAS_SENT)
    add_time(facts.rl, HAS_RECEIVED)
    add_time(facts.sl, HAS_STARTED)
    if facts.rt then
      flags, format = flags + HAS_RUN_TIME, format .. 'd'
      values[#values + 1] = facts.rt
    end
    add_time(facts.e, HAS_ETA)
    if facts.d ~= facts.rl then flags = flags + DEFINED_BY_SENT end
    if facts.o then flags = flags + IS_OTHER end
    if not fits then return nil end
    local marks = marks_of(facts, seen)
    for _, mark in ipairs(marks) do values[#values + 1] = mark end
    local name, queue, worker = number_of(facts.n), number_of(facts.q), number_of(facts.w)
    if not (name and queue and worker) then return nil end
    format = format .. string.rep('I4', #marks)
    local text = struct.pack(format, now_s, flags, name, queue, worker, ended, unpack(values))
    return #text <= MAX_TEXT and text or nil
  end

  -- The facts in a text; nil if it has expired or is foreign.
  local function unpacked(generation, text)
    if #text < 18 then return nil end
    local written, flags, name, queue, worker, ended, at = struct.unpack('>I4BI2I2I2I7', text)
    if written + success_ttl <= now_s then return nil end
    local facts = { tk = SUCCEEDED, tt = ended, tc = 1 }
    local function has(flag)
      return flags % (2 * flag) >= flag
    end
    local function time_at(flag)
      if not has(flag) then return nil end
      local apart
      apart, at = struct.unpack('>I5', text, at)
      return ended + BIAS - apart
    end
    facts.n, facts.q, facts.w = text_of(generation, name), text_of(generation, queue), text_of(generation, worker)
    facts.st, facts.rl, facts.sl = time_at(HAS_SENT), time_at(HAS_RECEIVED), time_at(HAS_STARTED)
    if has(HAS_RUN_TIME) then facts.rt, at = struct.unpack('>d', text, at) end
    facts.e = time_at(HAS_ETA)
    facts.d = has(DEFINED_BY_SENT) and facts.st or facts.rl
    facts.o = has(IS_OTHER) or nil
    facts.rc, facts.sc = facts.rl and 1, facts.sl and 1
    facts.sh = {}
    for place = at, #text - 3, 4 do facts.sh[#facts.sh + 1] = (struct.unpack('>I4', text, place)) end
    runs.keep_wait(facts)
    return facts
  end

  -- The facts of a task without a whole record; nil if there is no brief one.
  local function find(uuid)
    local field, place = place_of(uuid)
    for _, generation in ipairs(field and generations or {}) do
      local key = key_in(generation, place)
      local text = attempt('HGET', key, field)
      if text then
        has_loaded(#text)
        local good, facts = pcall(unpacked, generation, text)
        if good and facts then return facts end
        if not good then refused(key, BROKEN) end
      end
    end
    return nil
  end

  -- Whether an event is among those that a brief record has merged.
  local function has_seen(marks, id)
    local mark = mark_of(id, 1)
    for _, known in ipairs(marks) do
      if known == mark then return true end
    end
    return false
  end

  local function begin_generation(size_of_it)
    local last = generations[1]
    if last then last[4] = now + life * 1000 end
    table.insert(generations, 1, { last and last[1] + 1 or 1, size_of_it, now, 0 })
    redis.call('SET', keys.briefs, cmsgpack.pack(generations), 'EX', life)
  end

  -- Holds a brief record of a task until `write`, if the task can have one. Returns the s for which the whole record is
  -- kept then, or nil.
  local function keep(uuid, facts, seen)
    if not detail_ttl or facts.tk ~= SUCCEEDED or #seen > MAX_IDS_SIZE or not is_brief(facts) then return nil end
    local field, place = place_of(uuid)
    if not field then return nil end
    if #generations == 0 then generations[1] = { 1, FIRST_SIZE, now, 0 } end
    local text = packed(facts, seen)
    if not text then return nil end
    entries[size + 1], entries[size + 2], entries[size + 3], entries[size + 4] = uuid, place, field, text
    size = size + 4
    will_write(TO_WRITE.index)
    return detail_ttl
  end

  -- Deletes expired entries of a hash; returns whether there is room for more.
  local function sweep(key)
    local count = attempt('HLEN', key)
    if not count or count >= FULL then return false end
    local all, old = redis.call('HGETALL', key), {}
    for index = 1, #all, 2 do
      local text = all[index + 1]
      if #text < 4 or struct.unpack('>I4', text) + success_ttl <= now_s then old[#old + 1] = all[index] end
    end
    in_pieces(old, PUSH_AT_ONCE, function(...) redis.call('HDEL', key, ...) end)
    return true
  end

  -- Writes the brief record of a task; returns whether it could. looks: whether to check how full its hash is.
  local function write_one(key, field, text, looks)
    if redis.call('TTL', key) < success_ttl then
      if redis.call('EXISTS', key) == 1 and not sweep(key) then return false end
      if not attempt('HSET', key, field, text) then return false end
      redis.call('EXPIRE', key, life)
    elseif not attempt('HSET', key, field, text) then
      return false
    end
    is_crowded = is_crowded or looks and redis.call('HLEN', key) > CROWDED
    return true
  end

  -- How many hashes the next generation has if one is due, else nil or false.
  local function next_size()
    local last, number = generations[1], #generations
    if number >= MAX_GENERATIONS then return nil end
    if is_crowded and last[2] < LAST_SIZE then return last[2] * GROWTH end
    return lacks_texts and now - last[3] > success_ttl * 1000 / MAX_GENERATIONS and last[2] or nil
  end

  -- Makes sure that `briefs` names the generations, for all instances; returns whether it does.
  local function is_place_known()
    if not is_begun then
      -- A key of another type is foreign, and is not overwritten.
      if attempt('GET', keys.briefs) == nil then return false end
      redis.call('SET', keys.briefs, cmsgpack.pack(generations))
    end
    redis.call('EXPIRE', keys.briefs, life)
    return true
  end

  local function write_entries()
    local last, is_known = generations[1], is_place_known()
    local key = texts_of(last)
    if is_known then
      in_pieces(new_texts, 4 * PUSH_AT_ONCE, function(...) attempt('HSET', key, ...) end)
      attempt('EXPIRE', key, life)
    end
    for index = 1, size, 4 do
      local uuid, place, field, text = unpack(entries, index, index + 3)
      local looks = index % (4 * A_LOOK) == 1
      if not (is_known and write_one(key_in(last, place), field, text, looks)) then failed[#failed + 1] = uuid end
    end
  end

  -- Writes the brief records, before the whole ones.
  local function write()
    if size == 0 then return end
    write_entries()
    local more = (is_crowded or lacks_texts) and next_size()
    if more and #failed == 0 then begin_generation(more) end
  end

  -- Called after the records: extends the TTL of whole records whose brief ones could not be written, and deletes a
  -- foreign value of `briefs`, unless it was overwritten.
  local function mend()
    if is_broken and size == 0 then redis.pcall('DEL', keys.briefs) end
    for _, uuid in ipairs(failed) do redis.call('EXPIRE', families.task .. uuid, success_ttl) end
  end

  briefs = {
    begin = begin, are_any = are_any, find = find, has_seen = has_seen, keep = keep, write = write, mend = mend,
  }
end
