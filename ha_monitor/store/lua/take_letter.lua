-- Takes a dead letter out of the list; the handler is called again, if there is an entry for that. Atomic: of two that
-- take the same letter, one does.
--
-- @include clock
-- @keys retries dead_letters
-- @option letter  as it lies in the list
-- @option entry  of an outbox; empty if there is to be no call
--
-- Returns 1, or 0 if the letter is not there.

local taken = redis.call('LREM', keys.dead_letters, 1, options.letter)
if taken == 1 and options.entry ~= '' then redis.call('ZADD', keys.retries, now, options.entry) end
return taken
