/**
 * Lua for Redis: who leads, and what only the leader may change. A script runs in one piece, so
 * that nobody takes over between a look and the write that follows.
 *
 *   PREFIX:epoch      hash: the newest epoch, and the id of the coordinator that drew it
 *   PREFIX:leader     hash: id, epoch, address and seat of the leader; ends when nobody renews it
 *   PREFIX:standbys   sorted set: ids of those that stand by, by when they are to be forgotten
 */

/**
 * Begins every script of the leader, whose KEYS[1] is PREFIX:epoch, ARGV[1] its id and ARGV[2] its
 * epoch. A Redis that has lost its last writes may know an older epoch only; that fences nobody.
 */
export const FENCE = `
local term = redis.call('HMGET', KEYS[1], 'id', 'epoch')
if term[1] and term[1] ~= ARGV[1] and tonumber(term[2]) >= tonumber(ARGV[2]) then
  return redis.error_reply('FENCED by epoch ' .. term[2])
end
`;

/** What the error of a script that the fence has stopped begins with. */
export const FENCED_ERROR = /^FENCED/;

const NOW_MS = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`;

const HOLD = `
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'epoch', epoch)
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], 'id', ARGV[1], 'epoch', epoch, 'address', ARGV[3], 'seat', ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
`;

/**
 * Takes the lead with a new epoch, unless somebody else has it: then it registers as a standby.
 *
 * KEYS: epoch, leader, standbys. ARGV: id, highest epoch known, address, seat, ms that the lead
 * lasts, "1" to take it from whoever has it. Gives {1, epoch} or {0, epoch, address} of the leader.
 */
export const CAMPAIGN = `
local held = redis.call('HMGET', KEYS[2], 'id', 'epoch', 'address', 'seat')
local isFree = not held[1] or held[1] == ARGV[1] or ARGV[6] == '1'
if not isFree and (ARGV[4] == '' or ARGV[4] ~= held[4]) then
  ${NOW_MS}
  redis.call('ZADD', KEYS[3], now + ARGV[5], ARGV[1])
  redis.call('PEXPIRE', KEYS[3], ARGV[5])
  return {0, tonumber(held[2]), held[3]}
end
local drawn = tonumber(redis.call('HGET', KEYS[1], 'epoch') or 0)
local epoch = math.max(drawn, tonumber(ARGV[2])) + 1
redis.call('ZREM', KEYS[3], ARGV[1])
${HOLD}
return {1, epoch}
`;

/**
 * Keeps the lead. KEYS as above; ARGV: id, epoch, address, seat, ms that it lasts, the epoch to
 * have from now on. Gives the number of standbys.
 */
export const RENEW = `
local epoch = ARGV[6]
${NOW_MS}
${HOLD}
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
return redis.call('ZCARD', KEYS[3])
`;

/** Gives the lead up. KEYS: epoch, leader. */
export const RESIGN = "return redis.call('DEL', KEYS[2])";

/** Changes nothing: only the fence speaks. */
export const CONFIRM = "return 1";

/**
 * KEYS: epoch, ids, recipe, record, timeline, curves. ARGV: id, epoch, id of the experiment, time
 * of submission, recipe, record, timeline, curves.
 */
export const ADD_EXPERIMENT = `
for field = 3, #KEYS do redis.call('SET', KEYS[field], ARGV[field + 2]) end
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[3])
return 1
`;

/** KEYS: epoch, and what is to be set. ARGV: id, epoch, and the values. */
export const SAVE_EXPERIMENT = `
for field = 2, #KEYS do redis.call('SET', KEYS[field], ARGV[field + 1]) end
return 1
`;

/** KEYS: epoch, ids, and what is kept of it. ARGV: id, epoch, id of the experiment. */
export const FORGET_EXPERIMENT = `
redis.call('ZREM', KEYS[2], ARGV[3])
return redis.call('DEL', unpack(KEYS, 3))
`;

/**
 * Adds lines to a log, numbered on from its newest. KEYS: epoch, log. ARGV: id, epoch, how many
 * lines are kept, how many were lost before these, the number to be above, and the lines. Gives the
 * number of the last.
 */
export const APPEND_LOG = `
local entry = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
local newest = entry and tonumber(string.match(entry[1], '^%d+')) or 0
local last = math.max(newest, tonumber(ARGV[5])) + ARGV[4]
for line = 6, #ARGV do
  last = last + 1
  local id = string.format('%d-0', last)
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], id, 'line', ARGV[line])
end
return last
`;

/** KEYS: epoch, generation. ARGV: id, epoch, how many, and above what. Gives the last. */
export const DRAW_GENERATIONS = `
local drawn = tonumber(redis.call('GET', KEYS[2]) or 0)
local last = math.max(drawn, tonumber(ARGV[4])) + ARGV[3]
redis.call('SET', KEYS[2], string.format('%d', last))
return last
`;
