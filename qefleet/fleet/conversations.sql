-- Agents' conversations about a project, by name (see qefleet/sql/queries.py).

-- name: conversation_view
-- What a step has gone on from before.
SELECT messages FROM conversation_views WHERE run_id = $1 AND step = $2;

-- name: pin_view
-- The first view stands: a step that is asked again is asked the same.
INSERT INTO conversation_views (run_id, step, messages) VALUES ($1, $2, $3)
ON CONFLICT (run_id, step) DO NOTHING;

-- name: turns_before
-- An agent's ($2) latest turns on the same project, newest first, and what came of their runs: all as it was when
-- this run opened. The latest ones are taken first, by the index: it takes as long however many there are.
SELECT
    t.turn,
    t.asked,
    t.answered,
    coalesce(e.closed_at < r.opened_at, false) AS ended,
    e.decision,
    ARRAY(
        SELECT s.step || ' (' || coalesce(s.result -> 'error' ->> 'type', s.status) || ')'
        FROM steps AS s
        WHERE s.run_id = t.run_id AND s.status <> 'completed' AND s.step NOT LIKE '%/%' AND s.recorded_at < r.opened_at
        ORDER BY s.step
        LIMIT 5
    ) AS failed
FROM runs AS r
CROSS JOIN LATERAL (
    SELECT latest.turn, latest.run_id, latest.asked, latest.answered
    FROM conversation_turns AS latest
    WHERE latest.project = coalesce(r.snapshot ->> 'name', r.target)
        AND latest.agent = $2
        AND latest.recorded_at < r.opened_at
    ORDER BY latest.turn DESC
    LIMIT $3
) AS t
LEFT JOIN runs AS e ON e.run_id = t.run_id
WHERE r.run_id = $1
ORDER BY t.turn DESC;

-- name: lock_conversation
-- Turns of one conversation are numbered one after the other.
SELECT pg_advisory_xact_lock(hashtextextended('qe conversation ' || $2 || ' ' || coalesce(snapshot ->> 'name', target), 0))
FROM runs
WHERE run_id = $1;

-- name: record_turn
-- Adds a turn; of a step that is recorded again the first one stands.
INSERT INTO conversation_turns (project, agent, turn, run_id, step, asked, answered)
SELECT
    p.project,
    $3,
    1 + coalesce((SELECT max(t.turn) FROM conversation_turns AS t WHERE t.project = p.project AND t.agent = $3), 0),
    $1,
    $2,
    $4,
    $5
FROM (SELECT coalesce(snapshot ->> 'name', target) AS project FROM runs WHERE run_id = $1) AS p
ON CONFLICT (run_id, step) DO NOTHING;
