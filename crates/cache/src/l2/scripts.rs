//! What runs inside Redis. Each script is one step: nobody sees half of it.
//!
//! Entries begin with `kind(1) version(16)`; values and negatives go on with `epoch(16)`, tombstones with
//! a checksum. No script can verify a checksum, so none says a version that the caller could not
//! verify: only whole tombstones are handed back.

/// `KEYS: epoch, entry, lease. ARGV: epoch, token, milliseconds to live, what the caller found,
/// milliseconds of patience.`
/// `{code, tombstone, lease}` with the code 0: the lease is the caller's; 1: an entry is there by now;
/// 2: somebody else has the lease; 3: another epoch is in force. If the caller found something `1`
/// unusable or `2` damaged, it does not count. If he forces it with a `3`, the entry that was filled at
/// the time that follows does not count either: he replaces it before it expires, and any other means
/// that somebody has. What is damaged is deleted, since nobody can say which
/// version a fill of it has to have. (A tombstone that took its place meanwhile may go with it: the
/// lease that it voided is not the one that is given here.)
///
/// A lease is `token(16) turns`. Whoever comes when it is older than the caller's patience, doubled
/// for each turn, gets a turn: the same token, so that a fill of whoever had it before is still good.
/// With code 2 `lease` is the milliseconds until then.
pub(crate) const LEASE: &str = r"
if redis.replicate_commands then redis.replicate_commands() end
if redis.call('GETRANGE', KEYS[1], 0, 15) ~= ARGV[1] then return {3, '', ''} end
local stored = redis.pcall('GETRANGE', KEYS[2], 0, 52)
local tombstone = ''
if type(stored) == 'string' and #stored >= 33 then
  if string.sub(stored, 1, 1) == 'T' then tombstone = string.sub(stored, 1, 33) end
  local live = string.find(stored, '^[VN]%x+') and string.sub(stored, 18, 33) == ARGV[1]
  local is_due = ARGV[4] == '3' .. string.sub(stored, 38)
  if live and string.find(ARGV[4], '^[03]') and not is_due then return {1, '', ''} end
end
local lease = ARGV[2] .. '0'
local held = redis.call('GET', KEYS[3])
if held and string.sub(held, 1, 16) == ARGV[2] then
  lease = held
else
  if held then
    local turns = tonumber(string.sub(held, 17)) or 0
    local age = tonumber(ARGV[3]) - redis.call('PTTL', KEYS[3])
    local ripe = tonumber(ARGV[5]) * 2 ^ turns - age
    if ripe > 0 then return {2, '', string.format('%d', math.ceil(ripe))} end
    lease = string.sub(held, 1, 16) .. string.format('%d', turns + 1)
  end
  redis.call('SET', KEYS[3], lease, 'PX', ARGV[3])
end
if ARGV[4] == '2' then
  redis.call('DEL', KEYS[2])
  tombstone = ''
end
return {0, tombstone, lease}";

/// `KEYS: epoch, then entry and lease of each fill. ARGV: epoch, then for each fill: lease, version,
/// value, milliseconds to live.`
/// For each fill 1 if stored; 0 if the lease is gone: it expired, or the row changed; -1 if a newer
/// version is there; -2 if another epoch is in force, or there is no room. Without a value the lease is
/// given back, unless somebody has had a turn since.
pub(crate) const FILL: &str = r"
local is_current = redis.call('GETRANGE', KEYS[1], 0, 15) == ARGV[1]
local function fill(entry, lease, token, version, value, ttl)
  local held = redis.call('GET', lease) or ''
  if value == '' then
    if held == token then redis.call('DEL', lease) end
    return 0
  end
  if string.sub(held, 1, 16) ~= string.sub(token, 1, 16) then return 0 end
  redis.call('DEL', lease)
  if not is_current then return -2 end
  local stored = redis.pcall('GETRANGE', entry, 0, 32)
  if type(stored) == 'string' and string.find(stored, '^[VNT]%x+') and #stored == 33 then
    local counts = string.sub(stored, 1, 1) == 'T' or string.sub(stored, 18) == ARGV[1]
    if counts and string.sub(stored, 2, 17) > version then return -1 end
  end
  local set = redis.pcall('SET', entry, value, 'PX', ttl)
  if type(set) == 'table' and set.err then return -2 end
  return 1
end
local filled = {}
for at = 0, (#KEYS - 1) / 2 - 1 do
  filled[at + 1] = fill(KEYS[2 + 2 * at], KEYS[3 + 2 * at], ARGV[2 + 4 * at], ARGV[3 + 4 * at],
    ARGV[4 + 4 * at], ARGV[5 + 4 * at])
end
return filled";

/// `KEYS: mark, log, then entry and lease of each change. ARGV: the mark before and after,
/// milliseconds of the mark, milliseconds of a tombstone, entries of the log, then for each change:
/// tombstone, force, message.`
///
/// Voids the lease of each key, puts the tombstone in the place of an older entry (with force the same
/// or a newer one is deleted) and adds the message to the log. Then the mark moves: a data set that has
/// the mark has all that came before it. 1 if done, 0 if the mark is not the one before: then this is
/// another data set than the one the caller knows.
pub(crate) const INVALIDATE: &str = r"
if redis.replicate_commands then redis.replicate_commands() end
local mark = tonumber(redis.call('GET', KEYS[1]) or '-1')
if mark >= tonumber(ARGV[2]) then return 1 end
if mark ~= tonumber(ARGV[1]) then return 0 end
for change = 0, (#KEYS - 2) / 2 - 1 do
  local entry, lease = KEYS[3 + 2 * change], KEYS[4 + 2 * change]
  local tombstone, force, message = ARGV[6 + 3 * change], ARGV[7 + 3 * change], ARGV[8 + 3 * change]
  redis.call('DEL', lease)
  local stored = redis.pcall('GETRANGE', entry, 0, 16)
  local known = type(stored) == 'string' and #stored == 17 and string.find(stored, '^[VNT]%x+$')
  if not known or string.sub(stored, 2) < string.sub(tombstone, 2, 17) then
    local set = redis.pcall('SET', entry, tombstone, 'PX', ARGV[4])
    if type(set) == 'table' and set.err then redis.call('DEL', entry) end
  elseif force == '1' then
    redis.call('DEL', entry)
  end
  if message ~= '' then
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], '*', 'm', message)
  end
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1";

/// `KEYS: mark, then marks of others. ARGV: the mark before and after, milliseconds of the mark,
/// then how far each of the others must be.`
/// Moves the mark if this data set has what the others announced. 1 if it has, 2 if it has not,
/// 0 if the own mark is not the one before.
pub(crate) const ADOPT: &str = r"
local mark = tonumber(redis.call('GET', KEYS[1]) or '-1')
if mark >= tonumber(ARGV[2]) then return 1 end
if mark ~= tonumber(ARGV[1]) then return 0 end
for other = 2, #KEYS do
  if tonumber(redis.call('GET', KEYS[other]) or '-1') < tonumber(ARGV[2 + other]) then return 2 end
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1";

/// `KEYS: mark, then epoch and claim of each entity. ARGV: the mark before and after, milliseconds
/// of the mark, the claim, then the epoch of each entity.`
/// Claims that this data set has been told of every change up to a snapshot. 1 if done, 0 if the
/// mark or an epoch is not the one the caller knows.
pub(crate) const CLAIM: &str = r"
local mark = tonumber(redis.call('GET', KEYS[1]) or '-1')
if mark >= tonumber(ARGV[2]) then return 1 end
if mark ~= tonumber(ARGV[1]) then return 0 end
for entity = 0, (#KEYS - 1) / 2 - 1 do
  if redis.call('GETRANGE', KEYS[2 + 2 * entity], 0, 15) ~= ARGV[5 + entity] then return 0 end
end
for entity = 0, (#KEYS - 1) / 2 - 1 do redis.call('SET', KEYS[3 + 2 * entity], ARGV[4]) end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1";

/// `KEYS: mark, log, then epoch, claim and collection of each entity. ARGV: a fresh epoch, milliseconds of the
/// mark, entries of the log, the claim of a fresh epoch, then for each entity: force, message.`
/// Begins a new mark, and puts the fresh epoch in force where it is forced or where there is none; the
/// collection goes with the old one.
/// For each entity the epoch and the claim that goes with it, or nothing.
pub(crate) const SYNCHRONIZE: &str = r"
if redis.replicate_commands then redis.replicate_commands() end
local found = {}
for entity = 0, (#KEYS - 2) / 3 - 1 do
  local epoch, claim, collection = KEYS[3 + 3 * entity], KEYS[4 + 3 * entity], KEYS[5 + 3 * entity]
  local stored = redis.call('GETRANGE', epoch, 0, 15)
  if ARGV[5 + 2 * entity] == '1' or #stored ~= 16 then
    redis.call('DEL', collection)
    redis.call('SET', epoch, ARGV[1])
    redis.call('SET', claim, ARGV[4])
    stored = ARGV[1]
    if ARGV[6 + 2 * entity] ~= '' then
      redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'm', ARGV[6 + 2 * entity])
    end
  end
  found[#found + 1] = stored
  found[#found + 1] = redis.call('GET', claim) or ''
end
redis.call('SET', KEYS[1], '1', 'PX', ARGV[2])
return found";

/// `KEYS: collection. ARGV: a fresh collection.`
/// The collection in force; the fresh one if there is none.
pub(crate) const COLLECT: &str = r"
local stored = redis.pcall('GETRANGE', KEYS[1], 0, 16)
if type(stored) == 'string' and #stored == 16 and string.find(stored, '^%x+$') then return stored end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]";

/// `KEYS: hot keys of an entity, whether they have faded of late. ARGV: how many are kept, milliseconds
/// to live, milliseconds between two times of fading, then a number of reads and a key in turns.`
/// Adds reads to the keys that are read most. What was read before counts for half after a while.
pub(crate) const HEAT: &str = r"
if redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[3]) then
  redis.call('ZUNIONSTORE', KEYS[1], 1, KEYS[1], 'WEIGHTS', '0.5')
end
for at = 4, #ARGV, 2 do redis.call('ZINCRBY', KEYS[1], ARGV[at], ARGV[at + 1]) end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[1]))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])";

/// `KEYS: hot keys of an entity. ARGV: how many.`
/// Those that are read most, the first first.
pub(crate) const HOTTEST: &str =
    r"return redis.call('ZREVRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1)";
