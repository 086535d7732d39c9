-- What workers say about themselves; and that they are alive, which any of their events shows.
--
-- @include clock admission numbers outbox pieces record stored tables trouble work worker merge/others merge/activity
-- @include merge/tally
-- @keys workers unconfirmed young
-- @families worker
-- @options worker_ttl
-- @option workers  {{nodename, id, time in µs, type, payload or nil, fields}, …}

local workers

do
  -- A worker's clock may be wrong and then corrected: a time after `latest` counts as `latest`, since otherwise no
  -- later event could be newer. Of two such events within one millisecond, the one that arrived last is the later. No
  -- event of a correct clock is affected.
  local latest = (now + 1000) * 1000 -- µs

  local function is_later(at, id, entry)
    return entry == nil or at > entry[1] or (at == entry[1] and greater(id, entry[2])) or entry[1] >= latest
  end

  local heard, is_new = {}, {} -- nodename -> its record; nodename -> true
  local proven = { confirmed = {}, young = {}, grown = {} } -- nodenames; in `young`, each after a time

  local function load_worker(name)
    local record = load_packed(families.worker .. name)
    if record then return checked_worker(record) end
    is_new[name] = true
    return { f = now }
  end

  local clocks = {} -- nodename -> the latest time in µs by its own clock, unchanged
  local latest_of = {} -- nodename -> time in µs of the latest task event that this call merges

  -- A worker sent a task event. Called for every event, so it does little.
  local function hear(name, at)
    local known = latest_of[name]
    if known == nil then
      will_write(TO_WRITE.name)
      latest_of[name] = at
    elseif at > known then
      latest_of[name] = at
    end
  end

  -- Takes one more sign of life as proof of a worker.
  local function note_proof(name, record)
    if record.f then record.f = math.min(record.f, now) end -- Redis's clock may have been put back
    if record.f and now - record.f >= KEPT_FOR.proof then
      record.f, record.y = nil, record.f
      proven.confirmed[#proven.confirmed + 1] = name
    end
    if not record.y then return end
    if now - record.y < KEPT_FOR.youth then
      proven.young[#proven.young + 1] = now
      proven.young[#proven.young + 1] = name
    else
      record.y = nil
      proven.grown[#proven.grown + 1] = name
    end
  end

  local function merge(fact)
    local name, id, at, kind, payload, fields = fact[1], fact[2], whole(fact[3], MAX_TIME), fact[4], fact[5], fact[6]
    if payload then
      if not others.is_new(id) then return end
      put_event(payload, NIL, false)
    end
    local record = heard[name] or load_worker(name)
    clocks[name] = math.max(clocks[name] or 0, at)
    local part = kind == 'worker-heartbeat' and 'b' or 's'
    local merged_at, entry = math.min(at, latest), record[part]
    if entry and entry[2] == id then
      -- Another instance received it as well.
      if not payload then tally.add(0, 1) end
      return
    end
    local advances = is_later(merged_at, id, entry)
    if part == 'b' and not fields.processed and entry and entry[3].processed then
      -- An answer to a request, which says less than the worker's own heartbeat: only that the worker is alive.
      record.t, advances = math.max(record.t or 0, merged_at), false
    end
    if advances then record[part] = { merged_at, id, fields, part == 's' and kind or nil } end
    if not payload then
      -- Ids of these are not kept; one that is too late to change anything was most likely merged before.
      tally.add(advances and 1 or 0, advances and 0 or 1)
    end
    heard[name] = record
    if advances then note_proof(name, record) end
    local pid, processed = whole(fields.pid, 2 ^ 32), fields.processed
    if pid > 0 and at > 0 and (processed == 0 or whole(processed, MAX_COUNT) > 0) then
      processed = whole(processed, MAX_COUNT)
      activity.heartbeat(name, pid, at, processed, kind == 'worker-offline')
    end
  end

  local function merge_all()
    for _, fact in ipairs(options.workers) do merge(fact) end
  end

  -- Takes task events as signs of life, once a second for each worker: for most, a heartbeat says more.
  local function note_heard()
    for name, at in pairs(latest_of) do
      local last = not heard[name] and attempt('ZSCORE', keys.workers, name)
      if name ~= '' and (heard[name] or not last or now - tonumber(last) >= KEPT_FOR.sign_of_life) then
        local record = heard[name] or load_worker(name)
        record.t = math.max(record.t or 0, math.min(at, latest))
        clocks[name] = math.max(clocks[name] or 0, at)
        if not heard[name] then note_proof(name, record) end
        heard[name] = record
      end
    end
  end

  local function save(name, record)
    if clocks[name] and clocks[name] > 0 then record.c = clocks[name] end
    redis.call('SET', families.worker .. name, cmsgpack.pack(record), 'EX', options.worker_ttl)
  end

  local function write()
    if next(heard) == nil then return end
    local heard_of = {}
    for name, record in pairs(heard) do
      if not is_new[name] then
        save(name, record)
        heard_of[#heard_of + 1] = now
        heard_of[#heard_of + 1] = name
      end
    end
    in_pieces(heard_of, 2 * PUSH_AT_ONCE, function(...) redis.call('ZADD', keys.workers, ...) end)
    in_pieces(proven.young, 2 * PUSH_AT_ONCE, function(...) redis.call('ZADD', keys.young, ...) end)
    in_pieces(proven.confirmed, PUSH_AT_ONCE, function(...) redis.call('ZREM', keys.unconfirmed, ...) end)
    in_pieces(proven.grown, PUSH_AT_ONCE, function(...) redis.call('ZREM', keys.young, ...) end)
    -- New workers last, so that none that was heard of in this call is removed to make room for one.
    for name in pairs(is_new) do
      if heard[name] and admit_worker(name) then
        save(name, heard[name])
      elseif heard[name] and not latest_of[name] then
        activity.refuse(name) -- unless it sent task events: they prove its process even without a record
      end
    end
  end

  workers = { hear = hear, merge = merge_all, note_heard = note_heard, write = write }
end
