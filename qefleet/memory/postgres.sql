-- Reading and inserting statements say in themselves whose rows they may see: `scope` sets the project for the
-- statement's own transaction, and the rest hangs on it (LATERAL with OFFSET 0 can't be moved before it), so that
-- row-level security has it when the first row is looked at. One round trip, and nothing is left on the
-- connection. Those that update or delete, whose target may be scanned first, run in a transaction after
-- `set_project`. A trigger keeps what was there and raises versions.

-- name: set_project
-- Whose rows there are until the transaction ends.
SELECT set_config('qe.project', $1, true);

-- name: store_entry
-- Writes a value under a key; one that has expired was never there.
WITH scope AS MATERIALIZED (SELECT set_config('qe.project', $1, true) AS project)

INSERT INTO memory (project, partition, key, value, exact, words, expires_at)
SELECT scope.project, $2, $3, $4::text::jsonb, $5, array_to_tsvector($6::text[]), now() + $7::interval FROM scope
ON CONFLICT (project, partition, key) DO UPDATE
SET
    value = excluded.value,
    exact = excluded.exact,
    words = excluded.words,
    created_at = CASE WHEN memory.expires_at <= now() THEN now() ELSE memory.created_at END,
    updated_at = now(),
    expires_at = excluded.expires_at,
    run_id = NULL,
    step = NULL
RETURNING version;

-- name: replace_entry
-- Writes over one version only; the last parameter keeps its time of expiry.
UPDATE memory
SET
    value = $4::text::jsonb,
    exact = $5,
    words = array_to_tsvector($6::text[]),
    updated_at = now(),
    expires_at = CASE WHEN $9 THEN expires_at ELSE now() + $7::interval END,
    run_id = NULL,
    step = NULL
WHERE
    project = $1
    AND partition = $2
    AND key = $3
    AND version = $8
    AND (expires_at IS NULL OR expires_at > now())
RETURNING version;


-- name: create_entry
-- Writes where nothing is.
WITH scope AS MATERIALIZED (SELECT set_config('qe.project', $1, true) AS project)

INSERT INTO memory (project, partition, key, value, exact, words, expires_at)
SELECT scope.project, $2, $3, $4::text::jsonb, $5, array_to_tsvector($6::text[]), now() + $7::interval FROM scope
ON CONFLICT (project, partition, key) DO UPDATE
SET
    value = excluded.value,
    exact = excluded.exact,
    words = excluded.words,
    created_at = now(),
    updated_at = now(),
    expires_at = excluded.expires_at,
    run_id = NULL,
    step = NULL
WHERE memory.expires_at <= now()
RETURNING version;

-- name: append_item
-- Adds to a list that JSONB holds exactly, or begins one; nothing where it can't be done so.
WITH scope AS MATERIALIZED (SELECT set_config('qe.project', $1, true) AS project)

INSERT INTO memory (project, partition, key, value, words, expires_at)
SELECT scope.project, $2, $3, jsonb_build_array($4::text::jsonb), array_to_tsvector($5::text[]), now() + $6::interval
FROM scope
ON CONFLICT (project, partition, key) DO UPDATE
SET
    value = CASE
        WHEN memory.expires_at <= now() THEN excluded.value
        ELSE memory.value || excluded.value
    END,
    words = CASE
        WHEN memory.expires_at <= now() THEN excluded.words
        WHEN length(memory.words) >= $7 THEN memory.words
        ELSE memory.words || excluded.words
    END,
    created_at = CASE WHEN memory.expires_at <= now() THEN now() ELSE memory.created_at END,
    updated_at = now(),
    expires_at = CASE
        WHEN memory.expires_at <= now() THEN excluded.expires_at
        ELSE coalesce(excluded.expires_at, memory.expires_at)
    END,
    run_id = NULL,
    step = NULL
WHERE memory.expires_at <= now() OR (memory.exact IS NULL AND jsonb_typeof(memory.value) = 'array')
RETURNING version;

-- name: restore_entry
-- Writes an entry with its times; nothing when it has expired by now.
WITH scope AS MATERIALIZED (SELECT set_config('qe.project', $1, true) AS project)

INSERT INTO memory (project, partition, key, value, exact, words, created_at, expires_at)
SELECT
    scope.project, $2, $3, $4::text::jsonb, $5, array_to_tsvector($6::text[]), coalesce($7, now()), $8::timestamptz
FROM scope
WHERE $8::timestamptz IS NULL OR $8 > now()
ON CONFLICT (project, partition, key) DO UPDATE
SET
    value = excluded.value,
    exact = excluded.exact,
    words = excluded.words,
    created_at = excluded.created_at,
    updated_at = now(),
    expires_at = excluded.expires_at,
    run_id = NULL,
    step = NULL
RETURNING version;

-- name: retrieve_entry
-- The value under a key, unless it has expired.
WITH scope AS MATERIALIZED (SELECT set_config('qe.project', $1, true) AS project)

SELECT e.*
FROM scope
CROSS JOIN LATERAL (
    SELECT
        m.key, m.value, m.exact, m.version, m.created_at, m.updated_at, m.expires_at, m.run_id, m.step
    FROM memory AS m
    WHERE
        m.project = scope.project AND m.partition = $2 AND m.key = $3
        AND (m.expires_at IS NULL OR m.expires_at > now())
    OFFSET 0
) AS e;

-- name: search_entries
-- Keys that match a LIKE pattern; the bounds of its literal beginning let the primary key narrow it down.
WITH scope AS MATERIALIZED (SELECT set_config('qe.project', $1, true) AS project)

SELECT e.*
FROM scope
CROSS JOIN LATERAL (
    SELECT
        m.key, m.value, m.exact, m.version, m.created_at, m.updated_at, m.expires_at, m.run_id, m.step
    FROM memory AS m
    WHERE
        m.project = scope.project
        AND m.partition = $2
        AND m.key >= $3
        AND ($4::text IS NULL OR m.key < $4)
        AND ($7::text IS NULL OR m.key > $7)
        AND m.key LIKE $5
        AND (m.expires_at IS NULL OR m.expires_at > now())
    ORDER BY m.key
    LIMIT $6
    OFFSET 0
) AS e
ORDER BY e.key;

-- name: list_keys
-- Keys in a range with their versions.
WITH scope AS MATERIALIZED (SELECT set_config('qe.project', $1, true) AS project)

SELECT e.key, e.version
FROM scope
CROSS JOIN LATERAL (
    SELECT m.key, m.version
    FROM memory AS m
    WHERE
        m.project = scope.project
        AND m.partition = $2
        AND m.key >= $3
        AND ($4::text IS NULL OR m.key < $4)
        AND (m.expires_at IS NULL OR m.expires_at > now())
    ORDER BY m.key
    LIMIT $5
    OFFSET 0
) AS e
ORDER BY e.key;

-- name: find_entries
-- Entries with any of the words, those with most of them first. Each entry of the partition is looked at: an index
-- on words can't be used below row-level security, whose condition goes first.
WITH scope AS MATERIALIZED (SELECT set_config('qe.project', $1, true) AS project)

SELECT e.*
FROM scope
CROSS JOIN LATERAL (
    SELECT
        m.key, m.value, m.exact, m.version, m.created_at, m.updated_at, m.expires_at, m.run_id, m.step,
        (SELECT count(*) FROM unnest($5::text[]) AS asked (word) WHERE m.words @@ asked.word::tsquery) AS hits
    FROM memory AS m
    WHERE
        m.project = scope.project
        AND m.partition = $2
        AND m.words @@ $3::text::tsquery
        AND (m.expires_at IS NULL OR m.expires_at > now())
    ORDER BY hits DESC, m.key
    LIMIT $4
    OFFSET 0
) AS e
ORDER BY e.hits DESC, e.key;

-- name: nearest_entries
-- Entries whose vectors are nearest, exactly: every vector of the partition is compared. Narrow rows are sorted
-- first, whole entries are read of the nearest only.
WITH scope AS MATERIALIZED (SELECT set_config('qe.project', $1, true) AS project)

SELECT e.*
FROM scope
CROSS JOIN LATERAL (
    SELECT
        m.key, m.value, m.exact, m.version, m.created_at, m.updated_at, m.expires_at, m.run_id, m.step,
        best.distance
    FROM (
        SELECT near.key, near.distance
        FROM (
            SELECT v.key, v.version, v.embedding::vector <=> $4::real[]::vector AS distance
            FROM memory_vectors AS v
            WHERE v.project = scope.project AND v.partition = $2 AND v.model = $3
            OFFSET 0
        ) AS near
        INNER JOIN (
            SELECT there.key, there.version
            FROM memory AS there
            WHERE
                there.project = scope.project AND there.partition = $2
                AND (there.expires_at IS NULL OR there.expires_at > now())
            OFFSET 0
        ) AS live USING (key, version)
        ORDER BY near.distance, near.key
        LIMIT $5
    ) AS best
    INNER JOIN memory AS m ON m.project = scope.project AND m.partition = $2 AND m.key = best.key
    OFFSET 0
) AS e
ORDER BY e.distance, e.key;

-- name: without_vector
-- Entries, of those written since some time, whose present version has no vector of this model.
WITH scope AS MATERIALIZED (SELECT set_config('qe.project', $1, true) AS project)

SELECT e.*
FROM scope
CROSS JOIN LATERAL (
    SELECT m.key, m.version, m.value, m.exact
    FROM memory AS m
    WHERE
        m.project = scope.project
        AND m.partition = $2
        AND m.updated_at >= coalesce($5::timestamptz, '-infinity')
        AND (m.expires_at IS NULL OR m.expires_at > now())
        AND NOT EXISTS (
            SELECT FROM memory_vectors AS v
            WHERE
                v.project = m.project AND v.partition = m.partition AND v.key = m.key
                AND v.model = $3 AND v.version = m.version
        )
    ORDER BY m.key
    LIMIT $4
    OFFSET 0
) AS e;

-- name: keep_vectors
-- Writes vectors of entries that are still there.
WITH scope AS MATERIALIZED (SELECT set_config('qe.project', $1, true) AS project)

INSERT INTO memory_vectors (project, partition, key, model, version, embedding)
SELECT scope.project, $2, $3, $4, $5, $6
FROM scope
CROSS JOIN LATERAL (
    SELECT FROM memory AS m
    WHERE m.project = scope.project AND m.partition = $2 AND m.key = $3
    FOR KEY SHARE
) AS there
ON CONFLICT (project, partition, key, model) DO UPDATE
SET version = excluded.version, embedding = excluded.embedding
WHERE memory_vectors.version < excluded.version;

-- name: delete_entry
-- Takes a key away; the trigger keeps its last value.
WITH gone AS (
    DELETE FROM memory
    WHERE project = $1 AND partition = $2 AND key = $3
    RETURNING expires_at
)

SELECT count(*) FILTER (WHERE expires_at IS NULL OR expires_at > now())
FROM gone;


-- name: clear_partition
-- Takes all keys of a partition away.
WITH gone AS (
    DELETE FROM memory
    WHERE project = $1 AND partition = $2
    RETURNING expires_at
)

SELECT count(*) FILTER (WHERE expires_at IS NULL OR expires_at > now())
FROM gone;


-- name: history
-- Earlier versions of a key, the latest first.
WITH scope AS MATERIALIZED (SELECT set_config('qe.project', $1, true) AS project)

SELECT e.*
FROM scope
CROSS JOIN LATERAL (
    SELECT h.version, h.value, h.exact, h.changed_at AS written_at, h.run_id::text, h.step
    FROM memory_history AS h
    WHERE h.project = scope.project AND h.partition = $2 AND h.key = $3
    ORDER BY h.version DESC
    LIMIT $4
    OFFSET 0
) AS e
ORDER BY e.version DESC;

-- name: stats
-- Entries by partition, those that have expired, and earlier versions.
WITH scope AS MATERIALIZED (SELECT set_config('qe.project', $1, true) AS project)

SELECT e.*
FROM scope
CROSS JOIN LATERAL (
    SELECT
        m.partition,
        count(*) FILTER (WHERE m.expires_at IS NULL OR m.expires_at > now()) AS live,
        count(*) FILTER (WHERE m.expires_at <= now()) AS expired,
        0 AS versions
    FROM memory AS m
    WHERE m.project = scope.project
    GROUP BY m.partition
    UNION ALL
    SELECT h.partition, 0, 0, count(*)
    FROM memory_history AS h
    WHERE h.project = scope.project
    GROUP BY h.partition
    OFFSET 0
) AS e;

-- name: sweep_entries
-- Takes away what has expired, so many at most.
WITH gone AS (
    DELETE FROM memory
    WHERE
        project = $1
        AND (partition, key) IN (
            SELECT m.partition, m.key
            FROM memory AS m
            WHERE m.project = $1 AND m.expires_at <= now()
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        )
        AND expires_at <= now()
    RETURNING 1
)

SELECT count(*) FROM gone;


-- name: sweep_history
-- Takes earlier versions away that are older than this, so many at most.
WITH gone AS (
    DELETE FROM memory_history
    WHERE
        project = $1
        AND (partition, key, version) IN (
            SELECT h.partition, h.key, h.version
            FROM memory_history AS h
            WHERE h.project = $1 AND h.changed_at <= now() - $2::interval
            ORDER BY h.changed_at
            LIMIT $3
        )
    RETURNING 1
)

SELECT count(*) FROM gone;


-- name: projects
-- Projects that this connection's role may see, with their entries; those too that have a past only.
WITH scope AS MATERIALIZED (SELECT set_config('qe.project', '*', true) AS project)

SELECT e.project, e.entries
FROM scope
CROSS JOIN LATERAL (
    SELECT found.project, sum(found.entries)::bigint AS entries
    FROM (
        SELECT m.project, count(*) FILTER (WHERE m.expires_at IS NULL OR m.expires_at > now()) AS entries
        FROM memory AS m
        WHERE scope.project = '*'
        GROUP BY m.project
        UNION ALL
        SELECT h.project, 0
        FROM memory_history AS h
        WHERE scope.project = '*'
        GROUP BY h.project
    ) AS found
    GROUP BY found.project
    OFFSET 0
) AS e
ORDER BY e.project;

-- name: has_vectors
-- Whether the database has pgvector, and what time it is there.
SELECT now() AS now, count(*) > 0 AS there FROM pg_extension WHERE extname = 'vector';
