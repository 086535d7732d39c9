-- For each task that started others, at any depth, their ids: one list for each root, since a list entry takes a third
-- of the memory of a set entry. A repeated call may leave an id in the list twice; readers take the first.
--
-- A list lives as long as the records of its tasks: success_ttl after a task was added or ended, failure_ttl after one
-- ended badly, and as long as one is open, because the leader looks at open tasks (candidates.lua).
--
-- @include generated/catalogue index/lists trouble work
-- @families children
-- @options success_ttl failure_ttl

local children

do
  local MAX_CHILDREN = 10000 -- for one root
  local SPARE = 1.25 -- a list gets this multiple of its TTL, so that it is rarely renewed
  local SPARED = options.success_ttl * (SPARE - 1) * 1000000 -- µs
  local ids_of = {} -- root -> {task id, …}
  local renewed = {} -- root -> {TTL in s, id of a task in the list, …}
  local NONE = {}
  local left = {} -- root, task id, …

  local function renew(root, uuid, seconds)
    local known = renewed[root]
    if not known then
      known = { 0 }
      renewed[root] = known
      will_write(TO_WRITE.index)
    end
    known[1] = math.max(known[1], seconds)
    if uuid then known[#known + 1] = uuid end
  end

  -- Whether a task succeeded so soon after it was added that the list outlives its record, as most do.
  local function lives_anyway(facts)
    local began = facts.st or facts.rl
    return facts.tk == SUCCEEDED and began ~= nil and not facts.at and facts.tt - began < SPARED
  end

  -- root, before: the task's root now and before; has_ended: whether its end has changed.
  local function note(uuid, facts, root, before, has_ended)
    if before and root ~= before then
      left[#left + 1] = before
      left[#left + 1] = uuid
    end
    if not root then return end
    if root ~= before then
      local ids = ids_of[root]
      if not ids then
        ids = {}
        ids_of[root] = ids
      end
      ids[#ids + 1] = uuid
    elseif not has_ended or lives_anyway(facts) then
      return
    end
    local is_bad = facts.tk ~= nil and facts.tk ~= SUCCEEDED
    renew(root, root == before and uuid or nil, is_bad and options.failure_ttl or options.success_ttl)
  end

  -- Makes a list live for at least so many s; adds these ids again if it has expired.
  local function let_live(root, seconds, ids)
    local key = families.children .. root
    local left_of_it = redis.call('TTL', key)
    if left_of_it == -2 then push_ids(key, ids, MAX_CHILDREN, MAX_CHILDREN) end
    if left_of_it < seconds then attempt('EXPIRE', key, math.ceil(seconds * SPARE)) end
  end

  local function write()
    for index = 1, #left, 2 do attempt('LREM', families.children .. left[index], 0, left[index + 1]) end
    for root, ids in pairs(ids_of) do push_ids(families.children .. root, ids, MAX_CHILDREN, MAX_CHILDREN) end
    for root, entry in pairs(renewed) do let_live(root, entry[1], #entry > 1 and { unpack(entry, 2) } or NONE) end
  end

  -- Keeps the list of an open task's root alive.
  local function keep(uuid, facts)
    if facts.r and facts.r ~= true then let_live(facts.r, options.success_ttl, { uuid }) end
  end

  children = { note = note, write = write, keep = keep }
end
