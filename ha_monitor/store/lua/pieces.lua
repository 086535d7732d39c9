-- Passes many values to a command in pieces, because Lua's stack holds only some thousand.

local PUSH_AT_ONCE = 100

local function in_pieces(values, size, use)
  for start = 1, #values, size do
    use(unpack(values, start, math.min(start + size - 1, #values)))
  end
end
