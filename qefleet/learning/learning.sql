-- Choices, rewards, values and patterns, by name (see qefleet/sql/queries.py).

-- name: find_choice
-- The choice that was made in one decision about an item.
SELECT action, reason, policy, state_key, recalled, reward
FROM choices
WHERE run_id = $1 AND step = $2 AND item = $3 AND decision = $4;

-- name: lock_choices
-- All that was decided about an item, rounds in their order, while it is rewarded: of two that reward one
-- item, the second finds that it was done.
SELECT
    run_id, step, item, decision, agent, project, state_key, state, action, ordinal, recalled, reward,
    reward_so_far
FROM choices
WHERE run_id = $1 AND step = $2 AND item = $3
ORDER BY decision
FOR UPDATE;

-- name: make_choice
-- The first choice stands.
INSERT INTO choices (
    run_id, step, item, decision, ordinal, agent, project, policy, state_key, state, action, reason,
    alternatives, epsilon, rewards_before, recalled, reward_so_far
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
ON CONFLICT (run_id, step, item, decision) DO NOTHING;

-- name: reward_choice
-- What came of it.
UPDATE choices
SET reward = $5, value_before = $6, value_after = $7, rewarded_at = now()
WHERE run_id = $1 AND step = $2 AND item = $3 AND decision = $4;

-- name: mean_reward_of_items
-- What a step's items were rewarded with.
SELECT avg(reward)
FROM choices
WHERE run_id = $1 AND step = $2 AND decision = 'strategy';

-- name: values_of_model
-- What is known of each action in each state of one model; $2 is a pattern of such states.
SELECT state_key, action, value, visits
FROM q_values
WHERE agent = $1 AND state_key LIKE $2
ORDER BY state_key, action;

-- name: rewards_of_agent
-- How many rewards an agent has learnt from in decisions of some actions.
SELECT coalesce(sum(visits), 0)::bigint
FROM q_values
WHERE agent = $1 AND action = ANY($2::text[]);

-- name: enter_value
-- Makes sure that there is a row to lock.
INSERT INTO q_values (agent, state_key, action, value, visits)
VALUES ($1, $2, $3, $4, 0)
ON CONFLICT (agent, state_key, action) DO NOTHING;

-- name: lock_value
-- A value while it is moved.
SELECT value, visits
FROM q_values
WHERE agent = $1 AND state_key = $2 AND action = $3
FOR UPDATE;

-- name: move_value
-- A value after a reward.
UPDATE q_values
SET value = $4, visits = $5, updated_at = now()
WHERE agent = $1 AND state_key = $2 AND action = $3;

-- name: enter_trajectory
-- What was done in which state, what was measured, and what it was worth.
INSERT INTO trajectories (run_id, step, ordinal, agent, state, action, reward, measured)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: patterns_of_project
-- What may be recalled, the best first.
SELECT pattern_id, name, description, content, score, uses, successes
FROM patterns
WHERE agent = $1 AND project = $2 AND retired_at IS NULL
ORDER BY score DESC, created_at, pattern_id
LIMIT $3;

-- name: patterns_by_id
-- The patterns that a choice recalls, retired or not: a question that is asked again is the same question.
SELECT pattern_id, content
FROM patterns
WHERE pattern_id = ANY($1::text[]);

-- name: keep_pattern
-- A pattern as it was first seen.
INSERT INTO patterns (pattern_id, agent, project, name, description, content, score, run_id, step)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (pattern_id) DO NOTHING;

-- name: use_patterns
-- Patterns were recalled for an item: with success or without. What has not helped in four uses and in less
-- than a quarter of all is not recalled any more.
UPDATE patterns
SET
    uses = uses + 1,
    successes = successes + $2,
    score = (successes + $2 + 1.0) / (uses + 2.0),
    retired_at = CASE WHEN uses + 1 >= 4 AND (successes + $2) * 4 < uses + 1 THEN now() ELSE retired_at END,
    updated_at = now()
WHERE pattern_id = ANY($1::text[]);

-- name: trim_patterns
-- Keeps the best of a project; $3 is how many.
DELETE FROM patterns
WHERE pattern_id IN (
    SELECT p.pattern_id
    FROM patterns AS p
    WHERE p.agent = $1 AND p.project = $2 AND p.retired_at IS NULL AND p.uses > 0
    ORDER BY p.score DESC, p.created_at, p.pattern_id
    OFFSET $3
);

-- name: project_of_run
-- The name by which runs of one project find each other's results.
SELECT snapshot ->> 'name'
FROM runs
WHERE run_id = $1;

-- name: export_values
-- All that was learnt.
SELECT agent, state_key, action, value, visits
FROM q_values
ORDER BY agent, state_key, action;

-- name: export_patterns
-- All that may be recalled.
SELECT pattern_id, agent, project, name, description, content, score, uses, successes, retired_at
FROM patterns
ORDER BY agent, project, pattern_id;

-- name: import_value
-- A value from elsewhere; ours stands where it has as many rewards.
INSERT INTO q_values (agent, state_key, action, value, visits)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (agent, state_key, action) DO UPDATE
SET value = excluded.value, visits = excluded.visits, updated_at = now()
WHERE q_values.visits < excluded.visits;

-- name: import_pattern
-- A pattern from elsewhere; ours stands.
INSERT INTO patterns (
    pattern_id, agent, project, name, description, content, score, uses, successes, retired_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (pattern_id) DO NOTHING;
