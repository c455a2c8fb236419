-- What steps' models are shown of memory, by name (see qefleet/sql/queries.py).

-- name: newest_entries
-- What is remembered under any of some patterns, the newest first; of each value its beginning. `scope` is
-- explained in qefleet/memory/postgres.sql.
WITH scope AS MATERIALIZED (SELECT set_config('qe.project', $1, true) AS project)

SELECT e.*
FROM scope
CROSS JOIN LATERAL (
    SELECT
        m.key,
        left(m.value::text, $4) AS text,
        m.updated_at
    FROM memory AS m
    WHERE
        m.project = scope.project
        AND m.partition = $2
        AND m.key LIKE ANY($3::text [])
        AND (m.expires_at IS NULL OR m.expires_at > now())
    ORDER BY m.updated_at DESC, m.key ASC
    LIMIT $5
    OFFSET 0
) AS e
ORDER BY e.updated_at DESC, e.key ASC;

-- name: memory_view
-- What a step's model is shown.
SELECT shown FROM memory_views WHERE run_id = $1 AND step = $2;

-- name: pin_memory
-- The first view stands: a step that is asked again is asked the same.
INSERT INTO memory_views (run_id, step, shown) VALUES ($1, $2, $3)
ON CONFLICT (run_id, step) DO NOTHING;
