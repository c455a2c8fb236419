-- name: list_runs
-- The latest runs, newest first.
SELECT
    workflow_id,
    run_id::text,
    pattern,
    target,
    model,
    decision,
    opened_at,
    closed_at,
    extract(EPOCH FROM closed_at - opened_at)::float8 AS duration_s
FROM runs
ORDER BY opened_at DESC
LIMIT $1;

-- name: run_report
-- A run as it was recorded, by its workflow id (the latest run under it) or its run id.
SELECT
    workflow_id,
    run_id::text,
    target,
    decision,
    closed_at,
    result,
    model,
    plan,
    snapshot,
    environment
FROM runs
WHERE workflow_id = $1 OR run_id::text = $1
ORDER BY opened_at DESC
LIMIT 1;

-- name: run_record
-- What is known of the latest run under a workflow id (or of a run id) beside its result; the steps of its
-- expansions' items are left out.
SELECT
    r.workflow_id,
    r.pattern,
    r.opened_at,
    r.closed_at,
    coalesce(
        (
            SELECT jsonb_object_agg(s.step, s.recorded_at)
            FROM steps AS s
            WHERE s.run_id = r.run_id AND s.step NOT LIKE '%/%'
        ),
        '{}'
    ) AS recorded_at
FROM runs AS r
WHERE r.workflow_id = $1 OR r.run_id::text = $1
ORDER BY r.opened_at DESC
LIMIT 1;

-- name: run_steps
-- A run's results in the order in which they were recorded, without those of an expansion's items.
SELECT result
FROM steps
WHERE run_id::text = $1 AND step NOT LIKE '%/%'
ORDER BY recorded_at, step;

-- name: learning_by_agent
-- What was tried, how it was rewarded, and what was learnt from it, by agent.
SELECT
    agent,
    count(*) AS trajectories,
    count(reward) AS rewarded,
    avg(reward) AS mean_reward,
    max(recorded_at) AS latest,
    (SELECT count(*) FROM q_values AS q WHERE q.agent = t.agent) AS learnt_values,
    (SELECT count(*) FROM patterns AS p WHERE p.agent = t.agent) AS patterns
FROM trajectories AS t
GROUP BY agent
ORDER BY agent;

-- name: trajectories_of
-- An agent's latest trajectories, newest first.
SELECT run_id::text, step, agent, state, action, reward, recorded_at
FROM trajectories
WHERE agent = $1
ORDER BY recorded_at DESC
LIMIT $2;

-- name: choices_of_step
-- What was chosen in a step, in the order of its items; $2 is empty for all steps of the run.
SELECT
    c.step,
    c.item,
    c.decision,
    c.policy,
    c.state_key,
    c.action,
    c.reason,
    c.alternatives,
    c.epsilon,
    c.rewards_before,
    c.recalled,
    c.reward,
    c.value_before,
    c.value_after,
    t.measured -> 'gains' AS gains,
    t.measured -> 'shares' AS shares
FROM choices AS c
LEFT JOIN trajectories AS t
    ON
        t.run_id = c.run_id
        AND t.step = c.step
        AND t.ordinal = c.ordinal
        AND t.reward IS NOT NULL
        AND c.decision = 'strategy'
WHERE c.run_id = (
        SELECT r.run_id
        FROM runs AS r
        WHERE r.workflow_id = $1 OR r.run_id::text = $1
        ORDER BY r.opened_at DESC
        LIMIT 1
    )
    AND (c.step = $2 OR $2 = '')
ORDER BY c.step, c.ordinal, array_position(ARRAY['order', 'strategy', 'tier'], c.decision), c.decision;

-- name: rewards_in_order
-- Rewards in the order in which they were given; $1 is empty for all agents.
SELECT reward, action, reason, policy
FROM choices
WHERE reward IS NOT NULL AND decision = 'strategy' AND (agent = $1 OR $1 = '')
ORDER BY rewarded_at, run_id, step, ordinal;
