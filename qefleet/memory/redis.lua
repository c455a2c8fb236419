-- What writes to the memory in Redis, each a script of its own: atomic, by the server's clock.
-- KEYS[1] is the partition's name before its parts:
--   :value    hash, key → JSON text                 :meta  hash, key → version|created|updated|expires (µs; 0: never)
--   :keys     sorted set of keys, by their bytes    :last  hash, key → last version
--   :past:KEY list of version|written|text, the latest first

-- name: prelude
local base = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function number(value) return string.format('%.0f', value) end
local function meta(key)
    local found = redis.call('HGET', base .. ':meta', key)
    if not found then return nil end
    local version, created, updated, expires = string.match(found, '(%d+)|(%d+)|(%d+)|(%d+)')
    expires = tonumber(expires)
    return {version = tonumber(version), created = tonumber(created), updated = updated,
        expires = expires, live = expires == 0 or expires > now}
end
local function keep(key, before, most)
    local text = redis.call('HGET', base .. ':value', key)
    redis.call('LPUSH', base .. ':past:' .. key, before.version .. '|' .. before.updated .. '|' .. text)
    redis.call('LTRIM', base .. ':past:' .. key, 0, most - 1)
end
local function put(key, text, before, created, expires, most)
    local version = 1 + (tonumber(redis.call('HGET', base .. ':last', key)) or 0)
    if before then keep(key, before, most) end
    redis.call('HSET', base .. ':value', key, text)
    redis.call('HSET', base .. ':meta', key,
        number(version) .. '|' .. number(created) .. '|' .. number(now) .. '|' .. number(expires))
    redis.call('HSET', base .. ':last', key, number(version))
    redis.call('ZADD', base .. ':keys', 0, key)
    redis.call('SADD', KEYS[2], ARGV[1])
    return version
end
local function remove(key, before, most)
    keep(key, before, most)
    redis.call('HDEL', base .. ':value', key)
    redis.call('HDEL', base .. ':meta', key)
    redis.call('ZREM', base .. ':keys', key)
end

-- name: store
-- partition, most, key, text, ttl (µs, 0: none), expected (any, none or a version)
local key, ttl, expected = ARGV[3], tonumber(ARGV[5]), ARGV[6]
local before = meta(key)
local live = before and before.live
if expected == 'none' and live then return 0 end
if expected ~= 'any' and expected ~= 'none' and not (live and before.version == tonumber(expected)) then return 0 end
return put(key, ARGV[4], before, live and before.created or now, ttl > 0 and now + ttl or 0, tonumber(ARGV[2]))

-- name: append
-- partition, most, key, text of the item, ttl (µs, 0: as it was)
local key, ttl = ARGV[3], tonumber(ARGV[5])
local before = meta(key)
local text, created, expires = '[' .. ARGV[4] .. ']', now, 0
if before and before.live then
    local there = redis.call('HGET', base .. ':value', key)
    if string.sub(there, 1, 1) ~= '[' then return 0 end
    if there ~= '[]' then text = string.sub(there, 1, -2) .. ', ' .. ARGV[4] .. ']' end
    created, expires = before.created, before.expires
end
if ttl > 0 then expires = now + ttl end
return put(key, text, before, created, expires, tonumber(ARGV[2]))

-- name: restore
-- partition, most, key, text, created (µs, 0: now), expires (µs, 0: never)
local key, created, expires = ARGV[3], tonumber(ARGV[5]), tonumber(ARGV[6])
if expires > 0 and expires <= now then return 0 end
return put(key, ARGV[4], meta(key), created > 0 and created or now, expires, tonumber(ARGV[2]))

-- name: delete
-- partition, most, keys: how many were there
local count = 0
for position = 3, #ARGV do
    local before = meta(ARGV[position])
    if before then
        if before.live then count = count + 1 end
        remove(ARGV[position], before, tonumber(ARGV[2]))
    end
end
return count

-- name: sweep
-- partition, most, limit, age in µs from which versions go: expired, versions, 1 where it stopped at its limit
local limit, keep_for, expired, versions = tonumber(ARGV[3]), tonumber(ARGV[4]), 0, 0
for _, key in ipairs(redis.call('HKEYS', base .. ':meta')) do
    local before = meta(key)
    if not before.live then
        if expired == limit then return {expired, versions, 1} end
        remove(key, before, tonumber(ARGV[2]))
        expired = expired + 1
    end
end
for _, key in ipairs(redis.call('HKEYS', base .. ':last')) do
    local past = base .. ':past:' .. key
    while true do
        local oldest = redis.call('LINDEX', past, -1)
        if not oldest or tonumber(string.match(oldest, '%d+|(%d+)|')) > now - keep_for then break end
        if expired + versions == limit then return {expired, versions, 1} end
        redis.call('RPOP', past)
        versions = versions + 1
    end
    if redis.call('EXISTS', past) == 0 and redis.call('HEXISTS', base .. ':meta', key) == 0 then
        redis.call('HDEL', base .. ':last', key)
    end
end
return {expired, versions, 0}
