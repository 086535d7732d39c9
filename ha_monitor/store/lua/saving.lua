-- The task records that this call writes once everything is computed.
--
-- @include ids work

local save_record, write_records

do
  local WRITTEN, NOTHING = '\195', '\192' -- MessagePack: true, nil
  local NOTHING_WAITS = WRITTEN .. NOTHING .. NOTHING
  local unsaved, unsaved_size = {}, 0
  -- Computed once for many records, which makes a merge 2 % faster: length of a text -> its MessagePack header; and
  -- number -> its text, since Redis needs a quarter of the time of a SET to make one.
  local heads, texts = {}, {}

  local function head_of(text)
    local head = heads[#text]
    if not head then
      head = string.sub(cmsgpack.pack(text), 1, -1 - #text)
      heads[#text] = head
    end
    return head
  end

  local function text_of(number)
    local text = texts[number]
    if not text then
      text = string.format('%.0f', number)
      texts[number] = text
    end
    return text
  end

  -- Holds a record until write_records. ttl: in s.
  function save_record(key, facts_text, seen, waiting, uncounted, story_text, ttl)
    local waits = NOTHING_WAITS
    if uncounted and #uncounted > 0 then
      waits = WRITTEN .. cmsgpack.pack(waiting or {}) .. cmsgpack.pack(uncounted)
    elseif waiting and #waiting > 0 then
      waits = WRITTEN .. cmsgpack.pack(waiting) .. NOTHING
    end
    -- In one expression: a text that is put together in two steps is copied twice.
    local value = facts_text .. head_of(seen) .. seen .. waits .. head_of(story_text) .. story_text
    local size = unsaved_size
    unsaved[size + 1], unsaved[size + 2], unsaved[size + 3] = key, value, text_of(ttl)
    unsaved_size = size + 3
    will_write(1 + #value / TO_WRITE.text)
  end

  function write_records()
    for index = 1, unsaved_size, 3 do
      redis.call('SET', unsaved[index], unsaved[index + 1], 'EX', unsaved[index + 2])
    end
    ids.write_older()
  end
end
