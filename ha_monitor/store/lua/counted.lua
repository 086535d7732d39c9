-- What this call has counted for the metrics: the instance that exports them has a copy, which each reply updates.

local note_counted, note_all_counted, note_samples, counted_reply

do
  local counted, size = {}, 0 -- field, number, field, number, …; an empty text if a field was deleted
  local samples_added = 0 -- upper bound of how many more samples a scrape returns from now on

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

  -- The part of the reply that says what was counted.
  function counted_reply()
    if size == 0 and samples_added == 0 then return {} end
    return { samples_added, counted }
  end
end
