-- What this call has counted for the metrics: whoever serves them keeps a copy, and learns of each change by the reply.

local note_counted, note_all_counted, note_samples, counted_reply

do
  local counted, size = {}, 0 -- field, number, field, number, …; an empty text where a field is gone
  local samples_added = 0 -- at most, that a scrape returns from now on and did not before

  function note_counted(field, number)
    counted[size + 1], counted[size + 2] = field, number
    size = size + 2
  end

  -- all: field, number, field, number, …
  function note_all_counted(all, length)
    if size == 0 then
      counted, size = all, length
      return
    end
    for index = 1, length do counted[size + index] = all[index] end
    size = size + length
  end

  function note_samples(count)
    samples_added = samples_added + count
  end

  -- What the reply says of it.
  function counted_reply()
    if size == 0 and samples_added == 0 then return {} end
    return { samples_added, counted }
  end
end
