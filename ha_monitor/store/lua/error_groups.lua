-- Groups of errors: failures, and retries for an exception, of one task with one fingerprint (events/fingerprint.py).
--
-- A group holds what follows from its errors, whatever their order, in how many calls, and by which instances they are
-- merged: MessagePack, {facts, traceback}. The facts, a map (a key is absent when nothing is known):
--   n c p         the task's name; the class of the exception; the place
--   k x           number of failures; number of retries
--   f l           times in µs of the first and the last error
--   h             hour since the epoch -> failures, for the last HOURS that have any
--   i             {{task id, time of its last error in µs}, …}: the tasks with the latest errors, the latest first
--   m t           message and time in µs of the last error; the traceback is that of the last one that has one, at `tt`
--   ra iu         what a person said: when it was resolved, until when it is ignored, in ms
-- An invalid time, and one in the future, count as now.
--
-- The MAX_GROUPS groups with the latest errors are kept. A group's id is made of the task's name and the fingerprint.
--
-- An error whose task has no known name yet waits in the task's facts (record.lua), `gw`: {{code, time in µs, message,
-- {fingerprint, class, place}, waiting since (ms)}, …}. The facts also have `g`, the fingerprint of the end that
-- counts, and `gr`, those of the last retries: {{time in µs, fingerprint}, …}, the latest last.
--
-- @include clock generated/catalogue numbers pieces record stored trouble work
-- @keys errors
-- @families error

local error_groups = {}

do
  local MAX_GROUPS, KEPT_FOR = 2000, 90 * 86400000 -- groups; ms after the last error
  local MAX_TASKS, HOURS, MAX_TRACEBACK = 20, 24, 4096
  local MAX_RETRIES_KEPT, MAX_WAITING_ERRORS = 5, 16
  local ID_LENGTH = 10
  local NAMELESS = 'unknown'
  local HOUR = 3600000000 -- µs
  local groups = {} -- id -> what this call adds to it

  local function time_of(at)
    return at > 0 and at <= now * 1000 and at or now * 1000
  end

  -- Whether an error is later than the known one, or of the same time and greater.
  local function is_newer(group, at, message)
    return group.t == nil or at > group.t or (at == group.t and greater(message, group.m))
  end

  -- Keeps the last error of each task.
  local function note_task(tasks, uuid, at)
    if not tasks[uuid] or at > tasks[uuid] then tasks[uuid] = at end
  end

  -- The end of a text, cut at the beginning of a line, or at least of a character.
  local function tail(text)
    if #text <= MAX_TRACEBACK then return text end
    local cut = string.sub(text, -MAX_TRACEBACK)
    local line = string.find(cut, '\n', 1, true)
    if line and line < #cut then return string.sub(cut, line + 1) end
    return (string.gsub(cut, '^[\128-\191]+', ''))
  end

  local function traceback_in(payload)
    local good, event = pcall(cmsgpack.unpack, payload)
    local text = good and type(event) == 'table' and type(event.fields) == 'table' and event.fields.traceback
    return type(text) == 'string' and tail(text) or ''
  end

  local ids = {} -- name -> fingerprint -> group id, since errors rarely come alone

  local function id_of(name, fingerprint)
    local of_name = ids[name]
    if not of_name then
      of_name = {}
      ids[name] = of_name
    end
    local id = of_name[fingerprint]
    if not id then
      id = string.sub(redis.sha1hex(name .. '\n' .. fingerprint), 1, ID_LENGTH)
      of_name[fingerprint] = id
    end
    return id
  end

  -- error: {fingerprint, class, place}; payload: the event's, or nil.
  local function add(uuid, name, code, at, message, error, payload)
    name = name or NAMELESS
    local id = id_of(name, error[1])
    local group = groups[id]
    if not group then
      group = { n = name, k = 0, x = 0, h = {}, tasks = {} }
      groups[id] = group
      will_write(TO_WRITE.group)
    end
    at = time_of(at)
    if code == FAILED then
      local hour = math.floor(at / HOUR)
      group.k, group.h[hour] = group.k + 1, (group.h[hour] or 0) + 1
    else
      group.x = group.x + 1
    end
    if not group.f or at < group.f then group.f = at end
    if not group.l or at > group.l then group.l = at end
    note_task(group.tasks, uuid, at)
    if is_newer(group, at, message) then group.t, group.m, group.c, group.p = at, message, error[2], error[3] end
    if not payload then return end
    local is_later = group.tt == nil or at > group.tt
    if is_later or (at == group.tt and greater(traceback_in(payload), traceback_in(group.payload))) then
      group.tt, group.payload = at, payload
    end
  end

  local function note_retry(facts, at, fingerprint)
    local list = facts.gr or {}
    local index = #list
    while index > 0 and (list[index][1] > at or (list[index][1] == at and greater(list[index][2], fingerprint))) do
      index = index - 1
    end
    table.insert(list, index + 1, { at, fingerprint })
    if #list > MAX_RETRIES_KEPT then table.remove(list, 1) end
    facts.gr = list
  end

  local function payload_of(announce, code, at)
    for _, entry in ipairs(announce or {}) do
      if entry[2] == code and entry[3] == at then return entry[1] end
    end
    return nil
  end

  -- Adds new errors of a task, and those that waited for its name, to their groups.
  -- facts: the task's, merged; noted: facts of new events with an error; announce: the task's announcements.
  function error_groups.note(uuid, facts, noted, announce)
    if facts.gw and facts.n then
      for _, entry in ipairs(facts.gw) do
        add(uuid, facts.n, entry[1], entry[2], entry[3], entry[4], payload_of(announce, entry[1], entry[2]))
      end
      facts.gw = nil
    end
    for _, fact in ipairs(noted) do
      local code, at, error = fact[2], fact[3], fact[8]
      if code == RETRIED then note_retry(facts, at, error[1]) end
      if facts.n or #(facts.gw or {}) >= MAX_WAITING_ERRORS then
        add(uuid, facts.n, code, at, fact[7], error, fact[5])
      else
        facts.gw = facts.gw or {}
        table.insert(facts.gw, { code, at, fact[7], error, now })
      end
    end
  end

  -- Adds an error as it waited, because nothing more is waited for.
  function error_groups.add_waiting(uuid, facts, entry, announce)
    add(uuid, facts.n, entry[1], entry[2], entry[3], entry[4], payload_of(announce, entry[1], entry[2]))
  end

  local function number_of(value)
    return clamped(value, MAX_COUNT)
  end

  -- {facts, traceback} of a stored group; empty if it is foreign.
  local function load_group(id)
    local known = load_packed(families.error .. id)
    local facts, text = known and known[1], known and known[2]
    if type(facts) ~= 'table' then return {}, '' end
    return facts, type(text) == 'string' and text or ''
  end

  local function merged_hours(known, group)
    local last = math.floor(group.l / HOUR)
    local hours = {}
    for _, counted in ipairs({ type(known) == 'table' and known or {}, group.h }) do
      for hour, count in pairs(counted) do
        if type(hour) == 'number' and hour > last - HOURS then hours[hour] = (hours[hour] or 0) + number_of(count) end
      end
    end
    return next(hours) and hours or nil
  end

  local function merged_tasks(known, tasks)
    for _, entry in ipairs(type(known) == 'table' and known or {}) do
      if type(entry) == 'table' and type(entry[1]) == 'string' then note_task(tasks, entry[1], number_of(entry[2])) end
    end
    local list = {}
    for uuid, at in pairs(tasks) do list[#list + 1] = { uuid, at } end
    table.sort(list, function(a, b)
      if a[2] ~= b[2] then return a[2] > b[2] end
      return greater(a[1], b[1])
    end)
    for index = #list, MAX_TASKS + 1, -1 do list[index] = nil end
    return list
  end

  -- A stored group and what this call adds, merged.
  local function merged(known, text, group)
    group.k, group.x = number_of(known.k) + group.k, number_of(known.x) + group.x
    if type(known.f) == 'number' then group.f = math.min(known.f, group.f) end
    if type(known.l) == 'number' then group.l = math.max(known.l, group.l) end
    if type(known.t) == 'number' and not is_newer(known, group.t, group.m) then group.t, group.m = known.t, known.m end
    group.h, group.i, group.tasks = merged_hours(known.h, group), merged_tasks(known.i, group.tasks), nil
    group.ra, group.iu = known.ra, known.iu
    local payload = group.payload
    group.payload = nil
    local is_known = type(known.tt) == 'number'
    if not payload or (is_known and known.tt > group.tt) then
      group.tt = known.tt
      return text
    end
    local found = traceback_in(payload)
    return is_known and known.tt == group.tt and greater(text, found) and text or found
  end

  -- Writes the groups, after the records.
  function error_groups.write()
    if next(groups) == nil then return end
    local seen = {}
    for id, group in pairs(groups) do
      local known, text = load_group(id)
      text = merged(known, text, group)
      -- An array of two, whose parts can be read separately.
      attempt('SET', families.error .. id, '\146' .. cmsgpack.pack(group) .. cmsgpack.pack(text), 'PX', KEPT_FOR)
      seen[#seen + 1], seen[#seen + 2] = math.floor(group.l / 1000), id
    end
    in_pieces(seen, 2 * PUSH_AT_ONCE, function(...) attempt('ZADD', keys.errors, ...) end)
    attempt('ZREMRANGEBYSCORE', keys.errors, '-inf', now - KEPT_FOR)
    attempt('PEXPIRE', keys.errors, KEPT_FOR)
    local excess = (attempt('ZCARD', keys.errors) or 0) - MAX_GROUPS
    local oldest = excess > 0 and attempt('ZRANGE', keys.errors, 0, excess - 1) or {}
    for _, id in ipairs(oldest) do
      attempt('DEL', families.error .. id)
      attempt('ZREM', keys.errors, id)
    end
  end
end
