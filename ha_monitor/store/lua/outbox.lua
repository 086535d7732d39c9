-- The outbox of an instance, and how a call becomes all or nothing.
--
-- Redis does not roll back what a script wrote before it failed. So a script reads and computes first, and then calls
-- `commit`, which writes in this order:
--   1  `unfinished`: whose outbox gets how many entries; `recovered`: up to where some come from another one
--   2  the entries
--   3  the records, and everything else
--   4  `unfinished` is deleted, and the outbox is trimmed
-- A failure before the second step leaves nothing that matters. After it, the entries are safe in the outbox, but some
-- records may not know of them: if any instance repeats the call, these entries would be announced a second time. So
-- the instance that finds `unfinished` puts the ids of the entries into `interrupted`, and `commit` leaves out what is
-- in there.
--
-- While somebody watches the tail of the whole fleet, which a key with a short TTL says, announcements are added to a
-- stream as well. Each entry of the stream has up to A_PIECE bytes of announcements (`e`, MessagePack: {entry, …}), the
-- token of their instance (`by`), and the number of all announcements up to its end (`n`), by which a reader sees that
-- some are missing. The stream is bounded, and expires. It is written before the outbox, so a call that fails in
-- between adds its announcements twice rather than never: a reader leaves out what it has seen. A takeover adds
-- nothing: the entries of the outbox were added to the stream when they were written.
--
-- @include clock ids numbers pieces saving stored trouble
-- @keys instance outbox unfinished interrupted tail tail_wanted
-- @families instance outbox
-- @option announced  sequence number below which the caller has announced everything

local NIL = '\192' -- in MessagePack
local items = {} -- entries that this call adds to the outbox

local function put(entry)
  items[#items + 1] = entry
end

local put_event, begin, trim, commit, leave_out_later

do
  local INTERRUPTED_TTL, MAX_INTERRUPTED = 86400, 100000 -- s; members
  -- MessagePack: arrays of four and of seven, the first a 0; an empty text and a 0.
  local EVENT_ITEM, WAITED_ITEM, NO_HANDLER = '\148\0', '\151\0', '\160\0'
  -- The key `id` and its length, in MessagePack, which cannot occur in a text.
  local ID_IN_ENTRY = '\162id\184(' .. string.rep('%x', 2 * ID_SIZE) .. ')'
  local MAX_PIECES, A_PIECE, TAIL_TTL = 512, 131072, 60 -- of the stream; bytes; s
  local any_interrupted, is_wanted, left_out = false, false, {}
  local behind, length, done -- the caller's outbox: number behind its last entry, entries, how many are announced

  local function is_event(item)
    local head = string.sub(item, 1, #EVENT_ITEM)
    return head == EVENT_ITEM or head == WAITED_ITEM
  end

  -- Adds an entry that announces an event: {0, event, facts or nil, incomplete}, as store/outbox.py reads it; if it was
  -- merged in an earlier call, and has waited since then, {0, event, facts or nil, incomplete, '', 0, since (ms)}.
  function put_event(payload, facts_text, incomplete, since)
    local flag = incomplete and '\195' or '\194'
    if since and since < now then
      items[#items + 1] = WAITED_ITEM .. payload .. facts_text .. flag .. NO_HANDLER .. cmsgpack.pack(since)
    else
      items[#items + 1] = EVENT_ITEM .. payload .. facts_text .. flag
    end
  end

  -- The id that identifies an entry.
  local function name_of_entry(entry)
    return is_event(entry) and string.match(entry, ID_IN_ENTRY) or redis.sha1hex(entry)
  end

  local function is_key(value, family)
    return type(value) == 'string' and string.sub(value, 1, #family) == family
  end

  local function is_place(value)
    return type(value) == 'number' and value >= 0 and value <= MAX_COUNT and value % 1 == 0
  end

  -- From now on, leaves entries with these ids out of every outbox. kept_for: for at least so many s.
  function leave_out_later(names, kept_for)
    if #names == 0 or redis.call('SCARD', keys.interrupted) >= MAX_INTERRUPTED then return end
    in_pieces(names, PUSH_AT_ONCE, function(...) redis.call('SADD', keys.interrupted, ...) end)
    if redis.call('TTL', keys.interrupted) < kept_for then redis.call('EXPIRE', keys.interrupted, kept_for) end
  end

  -- Clears up after a call that did not finish.
  local function recover_unfinished()
    local entry, outbox_of_it, first, before = unpack(load_packed(keys.unfinished) or {}, 1, 4)
    local is_ours = is_key(entry, families.instance) and is_key(outbox_of_it, families.outbox)
      and is_place(first) and is_place(before)
    if entry and not is_ours then refused(keys.unfinished, BROKEN) end
    if is_ours then
      local names = {}
      local pushed = unless_foreign('LRANGE', outbox_of_it, before, -1) or {}
      for number, item in ipairs(pushed) do names[number] = name_of_entry(item) end
      leave_out_later(names, INTERRUPTED_TTL)
      if redis.call('EXISTS', entry) == 1 then unless_foreign('HSET', entry, 'behind', first + #pushed) end
    end
    redis.call('DEL', keys.unfinished)
  end

  -- Begins the work of every call. Returns how many entries of the caller's outbox are announced.
  function begin()
    -- One command for three keys, because usually none of them exists.
    if redis.call('EXISTS', keys.unfinished, keys.interrupted, keys.tail_wanted) > 0 then
      is_wanted = redis.call('EXISTS', keys.tail_wanted) == 1
      recover_unfinished()
      any_interrupted = redis.call('EXISTS', keys.interrupted) == 1
    end
    length = redis.call('LLEN', keys.outbox)
    local known = redis.call('HGET', keys.instance, 'behind')
    behind = known and tonumber(known) or length
    -- Without `behind`, nothing says which entries are announced. The instance registers again when `repair` finds
    -- this.
    if not is_place(behind) or (known and not tonumber(known)) then error(keys.instance .. ': ' .. BROKEN) end
    if options.announced > behind then
      -- This Redis has lost its latest entries. The next ones must have numbers that were not used before.
      redis.call('HSET', keys.instance, 'behind', options.announced)
      behind = options.announced
    end
    done = math.max(0, options.announced - behind + length)
    return done
  end

  -- Deletes the announced entries of the caller's outbox. Returns the sequence number of the first remaining entry.
  -- Idempotent.
  function trim()
    if done > 0 then redis.call('LTRIM', keys.outbox, done, -1) end
    length, done = length - done, 0
    return behind - length
  end

  -- Removes from the first `own` items those that an interrupted call has already pushed. Returns how many of the own
  -- items remain. The items after them come from another outbox and are only moved.
  local function leave_out_interrupted(own)
    local kept = {}
    for number = 1, own do
      local name = name_of_entry(items[number])
      if redis.call('SISMEMBER', keys.interrupted, name) == 1 then
        left_out[#left_out + 1] = name
      else
        kept[#kept + 1] = items[number]
      end
    end
    local own_kept = #kept
    for number = own + 1, #items do kept[#kept + 1] = items[number] end
    for number = 1, #items do items[number] = kept[number] end
    return own_kept
  end

  -- own: how many of the first items come from no other outbox.
  local function push_items(own)
    if #items == 0 then return end
    redis.call('SET', keys.unfinished, cmsgpack.pack({ keys.instance, keys.outbox, behind, length }))
    -- The reply alone could be lost, and the others may have been announced by whoever left them behind.
    if own < #items then redis.call('HSET', keys.instance, 'recovered', behind + #items) end
    in_pieces(items, PUSH_AT_ONCE, function(...) redis.call('RPUSH', keys.outbox, ...) end)
    redis.call('HSET', keys.instance, 'behind', behind + #items)
  end

  local function add_to_tail(pieces)
    local total = attempt('INCRBY', keys.tail_wanted, #pieces)
    if not total then return end
    local packed = struct.pack('>BI2', 0xdc, #pieces) .. table.concat(pieces)
    local by = string.sub(keys.instance, #families.instance + 1)
    attempt('XADD', keys.tail, 'MAXLEN', '~', MAX_PIECES, '*', 'n', total, 'by', by, 'e', packed)
  end

  -- Adds the events among the first `own` items to the tail.
  local function write_tail(own)
    local pieces, bytes = {}, 0
    for number = 1, own do
      local item = items[number]
      if is_event(item) then
        if #pieces > 0 and bytes + #item > A_PIECE then
          add_to_tail(pieces)
          pieces, bytes = {}, 0
        end
        pieces[#pieces + 1], bytes = item, bytes + #item
      end
    end
    if #pieces == 0 then return end
    add_to_tail(pieces)
    attempt('EXPIRE', keys.tail, TAIL_TTL)
  end

  -- Writes everything, as the last step of a call: adds the items to the tail and to the caller's outbox, calls
  -- `write_indexes`, writes the records, and calls `write_rest`. Returns the sequence number of the first item, and how
  -- many of the first `own` items remain; items that are left out are removed from `items`.
  function commit(write_indexes, write_rest, own)
    own = own or #items
    if any_interrupted then own = leave_out_interrupted(own) end
    if is_wanted then write_tail(own) end
    push_items(own)
    if write_indexes then write_indexes() end
    write_records()
    if write_rest then write_rest() end
    in_pieces(left_out, PUSH_AT_ONCE, function(...) redis.call('SREM', keys.interrupted, ...) end)
    if #items > 0 then redis.call('DEL', keys.unfinished) end
    -- Not earlier: at its memory limit, Redis refuses the first write of a script, but none after one that it accepted.
    trim()
    return behind, own
  end
end
