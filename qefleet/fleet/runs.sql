-- Runs and steps, by name (see qefleet/sql/queries.py).

-- name: open_run
-- Enters a run; a retried activity finds it there.
INSERT INTO runs (run_id, workflow_id, pattern, input, plan, model, budget_usd, target)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (run_id) DO NOTHING;

-- name: load_run
-- A run with what was found for it so far.
SELECT run_id, workflow_id, pattern, input, plan, snapshot, environment
FROM runs
WHERE run_id = $1;

-- name: set_run_snapshot
-- The first snapshot stands: all steps of a run see the same content.
UPDATE runs
SET snapshot = coalesce(snapshot, $2)
WHERE run_id = $1
RETURNING snapshot;

-- name: set_run_environment
-- The first environment stands, as the first snapshot does.
UPDATE runs
SET environment = coalesce(environment, $2)
WHERE run_id = $1
RETURNING environment;

-- name: step_results
-- The recorded results of these steps.
SELECT step, result
FROM steps
WHERE run_id = $1 AND step = ANY($2::text[]);

-- name: last_result
-- What an agent found last on the same project: before this run, so that a step done again finds the same.
SELECT s.result
FROM runs AS r
INNER JOIN runs AS earlier
    ON earlier.run_id <> r.run_id AND earlier.snapshot ->> 'name' = r.snapshot ->> 'name'
INNER JOIN steps AS s ON s.run_id = earlier.run_id
WHERE r.run_id = $1
    AND s.agent = $2
    AND s.status = 'completed'
    AND s.step NOT LIKE '%/%'
    AND s.recorded_at < r.opened_at
ORDER BY s.recorded_at DESC
LIMIT 1;

-- name: history
-- What each agent took on the same project before this run. A cost that isn't known makes the median unknown.
SELECT
    s.agent,
    count(*)::int AS runs,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY (s.result ->> 'duration_s')::float) AS median_s,
    CASE
        WHEN count(*) = count(s.result -> 'usage' ->> 'cost_usd')
            THEN percentile_cont(0.5) WITHIN GROUP (ORDER BY (s.result -> 'usage' ->> 'cost_usd')::float)
    END AS median_cost_usd
FROM runs AS r
INNER JOIN runs AS earlier
    ON earlier.run_id <> r.run_id AND earlier.snapshot ->> 'name' = r.snapshot ->> 'name'
INNER JOIN steps AS s ON s.run_id = earlier.run_id
WHERE r.run_id = $1
    AND s.status = 'completed'
    AND s.step NOT LIKE '%/%'
    AND s.recorded_at < r.opened_at
GROUP BY s.agent
ORDER BY s.agent;

-- name: patches
-- Digests of the patches of these steps and of the items below them.
SELECT step, result ->> 'patch' AS patch
FROM steps
WHERE run_id = $1
    AND (step = ANY($2::text[]) OR split_part(step, '/', 1) = ANY($2::text[]))
    AND result ->> 'patch' IS NOT NULL;

-- name: add_steps
-- Adds steps to a run's plan; those that are there stay as they are.
UPDATE runs
SET plan = jsonb_set(
    plan,
    '{steps}',
    (plan -> 'steps') || coalesce(
        (
            SELECT jsonb_agg(added)
            FROM jsonb_array_elements($2::jsonb) AS added
            WHERE NOT (plan -> 'steps') @> jsonb_build_array(jsonb_build_object('step', added -> 'step'))
        ),
        '[]'
    )
)
WHERE run_id = $1;

-- name: store_items
-- Writes an expansion's list; the first list of a name stands.
INSERT INTO items (run_id, source, ordinal, item)
SELECT $1, $2, listed.ordinal - 1, listed.item
FROM jsonb_array_elements($3::jsonb) WITH ORDINALITY AS listed (item, ordinal)
WHERE NOT EXISTS (SELECT FROM items WHERE run_id = $1 AND source = $2);

-- name: count_items
-- How long a list is.
SELECT count(*) FROM items WHERE run_id = $1 AND source = $2;

-- name: load_item
-- One item of a list.
SELECT item FROM items WHERE run_id = $1 AND source = $2 AND ordinal = $3;

-- name: page_of_items
-- Names of some items of a list.
SELECT coalesce(nullif(item ->> 'title', ''), item ->> 'id') AS name
FROM items
WHERE run_id = $1 AND source = $2 AND ordinal >= $3 AND ordinal < $3 + $4
ORDER BY ordinal;

-- name: item_results
-- What was recorded of a step's items, without their details.
SELECT
    s.step,
    s.status,
    s.result ->> 'headline' AS headline,
    s.result -> 'error' AS error,
    s.result -> 'measured' -> 'metrics' AS metrics
FROM steps AS s
WHERE s.run_id = $1 AND split_part(s.step, '/', 1) = $2 AND s.step <> $2
ORDER BY split_part(s.step, '/', 2)::bigint;

-- name: enter_project
-- Until the transaction ends, memory is that of the run's project.
SELECT set_config('qe.project', coalesce((SELECT snapshot ->> 'name' FROM runs WHERE run_id = $1), 'default'), true);

-- name: remember_approval
-- What a person said, under a key of its own; saying it again changes nothing.
INSERT INTO memory (project, key, value, run_id, step, words)
VALUES (current_setting('qe.project'), $1, $2, $3, $4, array_to_tsvector($5::text[]))
ON CONFLICT (project, partition, key) DO NOTHING;

-- name: record_step
-- A step that is run again (after `temporal workflow reset`) replaces its result.
INSERT INTO steps (run_id, step, agent, status, result)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (run_id, step) DO UPDATE
SET status = excluded.status, result = excluded.result, recorded_at = now();

-- name: remember
-- The latest result under an agent's key; saying it twice for one step does not raise the version.
INSERT INTO memory (project, key, value, run_id, step, words)
VALUES (current_setting('qe.project'), $1, $2, $3, $4, array_to_tsvector($5::text[]))
ON CONFLICT (project, partition, key) DO UPDATE
SET
    value = excluded.value,
    exact = NULL,
    words = excluded.words,
    run_id = excluded.run_id,
    step = excluded.step,
    expires_at = NULL,
    updated_at = now()
WHERE memory.run_id IS DISTINCT FROM excluded.run_id
    OR memory.step IS DISTINCT FROM excluded.step
    OR memory.value IS DISTINCT FROM excluded.value;

-- name: record_trajectory
-- What was done in which state, and what was measured; counted once.
INSERT INTO trajectories (run_id, step, ordinal, agent, state, action, measured)
VALUES ($1, $2, 0, $3, $4, $5, $6)
ON CONFLICT (run_id, step, ordinal) DO UPDATE
SET state = excluded.state, action = excluded.action, measured = excluded.measured;

-- name: close_run
-- A run's end; a reset run may end again.
UPDATE runs
SET decision = $2, result = $3, closed_at = now()
WHERE run_id = $1;
