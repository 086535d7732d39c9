-- Takes a dead letter out of the list, and has its handler called again if there is an entry for that. Atomic: if two
-- callers take the same letter, one gets it.
--
-- @include clock
-- @keys retries dead_letters
-- @option letter  the letter as it is in the list
-- @option entry  of an outbox; empty if the handler is not to be called
--
-- Returns 1, or 0 if the letter is not there.

local taken = redis.call('LREM', keys.dead_letters, 1, options.letter)
if taken == 1 and options.entry ~= '' then redis.call('ZADD', keys.retries, now, options.entry) end
return taken
