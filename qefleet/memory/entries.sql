-- name: store_entry
-- Writes a value under a key; what stood there before goes into the history under its version.
WITH before AS (
    INSERT INTO memory_history (partition, key, version, value, changed_at, run_id, step)
    SELECT partition, key, version, value, updated_at, run_id, step
    FROM memory
    WHERE partition = $1 AND key = $2
    ON CONFLICT DO NOTHING
)
INSERT INTO memory (partition, key, value, expires_at)
VALUES ($1, $2, $3, now() + $4::interval)
ON CONFLICT (partition, key) DO UPDATE
SET
    value = excluded.value,
    expires_at = excluded.expires_at,
    version = memory.version + 1,
    updated_at = now(),
    run_id = NULL,
    step = NULL
RETURNING version;

-- name: retrieve_entry
-- The value under a key, unless it has expired.
SELECT partition, key, value, version, updated_at, expires_at, run_id::text, step
FROM memory
WHERE partition = $1 AND key = $2 AND (expires_at IS NULL OR expires_at > now());

-- name: search_entries
-- Keys that match a LIKE pattern; the bounds of its literal beginning let the primary key narrow it down.
SELECT partition, key, value, version, updated_at, expires_at, run_id::text, step
FROM memory
WHERE
    partition = $1
    AND key >= $2
    AND ($3::text IS NULL OR key < $3)
    AND key LIKE $4
    AND (expires_at IS NULL OR expires_at > now())
ORDER BY key
LIMIT $5;

-- name: delete_entry
-- Takes a key away and keeps its last value in the history.
WITH gone AS (
    DELETE FROM memory
    WHERE partition = $1 AND key = $2
    RETURNING partition, key, version, value, updated_at, expires_at, run_id, step
),

kept AS (
    INSERT INTO memory_history (partition, key, version, value, changed_at, run_id, step)
    SELECT partition, key, version, value, updated_at, run_id, step
    FROM gone
    ON CONFLICT DO NOTHING
)

SELECT count(*) FILTER (WHERE expires_at IS NULL OR expires_at > now())
FROM gone;
