-- Counts the events of a call by their labels: name, worker and queue. The names of the fields are built when they are
-- written, once for many events. Most calls count little under each label set, so a new cell is cheap, too.
--
-- A cell has the events counted under the same labels: {name, worker, queue, between, to_write, events,
-- failed = {[exception] = count} or nil, histograms = table or nil}. `between` is the middle part of its fields,
-- between the kind and the last part (counting.lua); `to_write` is what one more field costs to write (work.lua).
-- `events` has {[code] = count} and, as `events.cell`, the cell; callers use it instead of the cell, since it is
-- usually enough.
--
-- Histograms: {name, worker, queue, between, to_write, runs, waits}; `runs` and `waits`, once they are not empty, are
-- {counts = {[index of a bound] = count}, sum in µs, index = the bound that was found last}.
--
-- @include generated/catalogue numbers work
-- @options counting

local cells

do
  local SEPARATOR, OVERFLOW = '\31', 'overflow'
  local bounds = options.counting and options.counting.buckets
  local is_by_worker = options.counting and options.counting.worker_histograms
  local all, all_histograms = {}, {}
  local cell_at, histograms_at = {}, {} -- between -> cell; between -> histograms
  local histograms_of = {} -- name -> queue -> the histograms that all workers share

  local function between_of(name, worker, queue)
    return SEPARATOR .. name .. SEPARATOR .. worker .. SEPARATOR .. queue .. SEPARATOR
  end

  -- The events of a cell, which is created if it is new.
  local function events_of(name, worker, queue)
    local between = between_of(name, worker, queue)
    local cell = cell_at[between]
    if cell then return cell.events end
    local events = {}
    cell = {
      name = name,
      worker = worker,
      queue = queue,
      between = between,
      to_write = TO_WRITE.index + #between / TO_WRITE.labels,
      events = events,
    }
    events.cell = cell
    cell_at[between], all[#all + 1] = cell, cell
    return events
  end

  local function begin_histograms(cell)
    local name, queue = cell.name, cell.queue
    -- Usually all workers share one.
    local is_shared = not is_by_worker and name ~= OVERFLOW
    local of_name = is_shared and histograms_of[name]
    local found = of_name and of_name[queue]
    if not found then
      local between = is_shared and between_of(name, '', queue) or cell.between
      found = histograms_at[between]
      if not found then
        found = { name = name, worker = cell.worker, queue = queue, between = between, to_write = cell.to_write }
        histograms_at[between], all_histograms[#all_histograms + 1] = found, found
      end
      if is_shared then
        of_name = of_name or {}
        histograms_of[name], of_name[queue] = of_name, found
      end
    end
    cell.histograms = found
    return found
  end

  -- The index of the bucket for a duration; often that of the one before, or a neighbour.
  local function index_of(seconds, index)
    while bounds[index] and seconds > bounds[index] do index = index + 1 end
    while index > 1 and seconds <= bounds[index - 1] do index = index - 1 end
    return index
  end

  local function within(seconds)
    return seconds >= 0 and seconds <= MAX_SECONDS and seconds or clamped(seconds, MAX_SECONDS)
  end

  -- Adds a duration to the histogram of a kind, 'runs' or 'waits'.
  local function observe(events, kind, seconds)
    local cell = events.cell
    local histograms = cell.histograms or begin_histograms(cell)
    local histogram = histograms[kind]
    if not histogram then
      histogram = { counts = {}, sum = 0, index = 1 }
      histograms[kind] = histogram
    end
    seconds = within(seconds)
    local index = index_of(seconds, histogram.index)
    histogram.index = index
    local counts, sum = histogram.counts, seconds * 1000000 + 0.5
    local before = counts[index]
    if not before then will_write(2 * histograms.to_write) end -- with the sum
    counts[index], histogram.sum = (before or 0) + 1, histogram.sum + sum - sum % 1
  end

  -- Counts one event.
  -- extra: the run time in seconds with SUCCEEDED, the exception's text with FAILED; or nil.
  local function count(events, code, extra)
    if code == FAILED then
      local cell = events.cell
      local exception = string.match(extra or '', '^([%w_.]+)%(') or 'UnknownException'
      cell.failed = cell.failed or {}
      cell.failed[exception] = (cell.failed[exception] or 0) + 1
      will_write(cell.to_write) -- an upper bound
      return
    end
    local before = events[code]
    if not before then will_write(events.cell.to_write) end
    events[code] = (before or 0) + 1
    if code == SUCCEEDED and extra then observe(events, 'runs', extra) end
  end

  -- Numbers as texts in fields, converted once: Lua takes as long for one as Redis for a field.
  local texts = {}

  local function text_of(number)
    local text = texts[number]
    if not text then
      text = number .. ''
      texts[number] = text
    end
    return text
  end

  -- Appends all fields to one list and their counts to another, both after the first `size` entries; returns the new
  -- size.
  local function add_fields(fields, amounts, size)
    for _, cell in ipairs(all) do
      local between = cell.between
      cell.events.cell = nil
      for code, by in pairs(cell.events) do
        size = size + 1
        fields[size], amounts[size] = (texts[code] or text_of(code)) .. between, by
      end
      if cell.failed then
        for exception, by in pairs(cell.failed) do
          size = size + 1
          fields[size], amounts[size] = text_of(FAILED) .. between .. exception, by
        end
      end
    end
    local function add_histogram(bucket_kind, sum_kind, between, histogram)
      local start = bucket_kind .. between
      for index, by in pairs(histogram.counts) do
        size = size + 1
        fields[size], amounts[size] = start .. (bounds[index] and text_of(bounds[index]) or '+Inf'), by
      end
      size = size + 1
      fields[size], amounts[size] = sum_kind .. between, histogram.sum
    end
    for _, histograms in ipairs(all_histograms) do
      local between = histograms.between
      if histograms.runs then add_histogram('r', 'R', between, histograms.runs) end
      if histograms.waits then add_histogram('w', 'W', between, histograms.waits) end
    end
    return size
  end

  -- The labels under which a field was first counted: name, worker, queue.
  local function labels_of(kind, between)
    local found = string.find(kind, '^%d') and cell_at[between] or histograms_at[between]
    return found.name, found.worker, found.queue
  end

  cells = {
    events_of = events_of,
    count = count,
    observe = observe,
    add_fields = add_fields,
    labels_of = labels_of,
  }
end
