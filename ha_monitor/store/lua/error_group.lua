-- What a person says about a group of errors. Needs no lease: it is not the work of an instance. Atomic.
--
-- @include clock stored trouble
-- @keys errors
-- @families error
-- @option group  its id
-- @option resolved  when its cause was removed: ms from now; nil to take that back
-- @option ignored  until when it is ignored: ms from now; nil to take that back
-- @option kept  what stays unchanged: 'resolved', or nil
--
-- Returns 1, or 0 if there is no such group.

local key = families.error .. options.group
local known = attempt('ZSCORE', keys.errors, options.group) and load_packed(key)
if not known or type(known[1]) ~= 'table' then return 0 end
local facts = known[1]
if options.kept ~= 'resolved' then facts.ra = options.resolved and now + options.resolved end
facts.iu = options.ignored and now + options.ignored
local left = math.max(1, redis.call('PTTL', key))
redis.call('SET', key, '\146' .. cmsgpack.pack(facts) .. cmsgpack.pack(known[2] or ''), 'PX', left)
return 1
