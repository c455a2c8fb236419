-- Statements by name (see queries.py). All times are the database's.

-- name: call_replay
-- An answer that is already there, counted as served from the ledger. Nothing when there is none.
UPDATE model_calls SET replays = replays + 1
WHERE call_key = $1 AND state = 'answered'
RETURNING response_status, response_headers, response, cost_usd;

-- name: call_enter
-- Make the call known; nothing happens when it is.
INSERT INTO model_calls
    (call_key, run_id, workflow_id, step, agent, ordinal, request_digest, provider, model, request, tier,
        state)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'open')
ON CONFLICT (call_key) DO NOTHING;

-- name: call_lock
-- Who has the call, held until the end of the transaction.
SELECT state, lease_owner, lease_until > clock_timestamp() AS leased, attempts
FROM model_calls WHERE call_key = $1 FOR UPDATE;

-- name: call_state
-- Who has the call, at a glance.
SELECT state, lease_until > clock_timestamp() AS leased FROM model_calls WHERE call_key = $1;

-- name: call_take
-- Claim a locked call for the attempt $2 for $3 seconds, with $4 USD at most set aside for it (null: no bound).
UPDATE model_calls
SET state = 'claimed', lease_owner = $2, lease_until = clock_timestamp() + make_interval(secs => $3),
    reserved_usd = $4, attempts = attempts + 1
WHERE call_key = $1;

-- name: attempts_lose
-- Attempts that still run while another takes over: their gateway is gone, and nobody knows whether they were paid.
UPDATE model_attempts SET outcome = 'lost', error = 'the gateway ended in mid-call', ended_at = clock_timestamp()
WHERE call_key = $1 AND outcome = 'running';

-- name: attempt_enter
-- An attempt that is about to be sent.
INSERT INTO model_attempts (attempt_id, call_key, run_id, outcome) VALUES ($1, $2, $3, 'running');

-- name: call_renew
-- Keep the claim of attempt $2 for another $3 seconds.
UPDATE model_calls SET lease_until = clock_timestamp() + make_interval(secs => $3)
WHERE call_key = $1 AND lease_owner = $2 AND state = 'claimed';

-- name: call_answer
-- Keep an answer, whoever holds the claim by now: the first one stays. Gives a row when this one was it.
UPDATE model_calls
SET state = 'answered', response_status = $2, response_headers = $3, response = $4, input_tokens = $5,
    output_tokens = $6, cost_usd = $7, priced = $8, answered_at = clock_timestamp(),
    lease_owner = NULL, lease_until = NULL, reserved_usd = NULL
WHERE call_key = $1 AND state <> 'answered'
RETURNING call_key;

-- name: call_answer_kept
-- The answer that was there first.
SELECT response_status, response_headers, response, cost_usd FROM model_calls WHERE call_key = $1;

-- name: attempt_answered
-- Close an attempt that brought an answer; again changes nothing.
UPDATE model_attempts
SET outcome = $2, status = $3, input_tokens = $4, output_tokens = $5, cost_usd = $6, error = NULL,
    ended_at = clock_timestamp()
WHERE attempt_id = $1 AND outcome IN ('running', 'lost');

-- name: attempt_failed
-- Close an attempt that brought none: $2 is `failed` (refused, surely not paid) or `lost` (nobody knows).
UPDATE model_attempts
SET outcome = $2, status = $3, error = $4, response = $5, ended_at = clock_timestamp()
WHERE attempt_id = $1 AND outcome = 'running';

-- name: call_release
-- Give a claim back: with $3 it may be taken as new, without it the claim stays, dead.
UPDATE model_calls
SET state = CASE WHEN $3 THEN 'open' ELSE 'claimed' END, reserved_usd = NULL, lease_until = clock_timestamp()
WHERE call_key = $1 AND lease_owner = $2 AND state = 'claimed';

-- name: budgets
-- What limits a call of run $1 that step $2 makes: the run's budget, its agent's own, and whose money it is.
SELECT
    r.budget_usd AS run_usd,
    (
        SELECT (s.step ->> 'budget_usd')::numeric
        FROM jsonb_array_elements(r.plan -> 'steps') AS s (step)
        WHERE s.step ->> 'step' = split_part($2, '/', 1)
    ) AS agent_usd,
    coalesce(r.snapshot ->> 'name', r.target) AS project
FROM runs AS r
WHERE r.run_id = $1;

-- name: run_lock
-- Holding the row serialises the admission of the run's calls.
SELECT run_id FROM runs WHERE run_id = $1 FOR NO KEY UPDATE;

-- name: project_lock
-- Serialises the admission of a project's calls, over all its runs.
SELECT pg_advisory_xact_lock(hashtextextended('qe project budget ' || $1, 0));

-- name: run_spending
-- What a run has spent, and what is set aside for its calls in flight (null when one of them has no bound).
SELECT
    (SELECT coalesce(sum(cost_usd), 0) FROM model_attempts WHERE run_id = $1) AS spent,
    flight.calls AS in_flight,
    flight.reserved
FROM (
    SELECT count(*) AS calls,
        CASE WHEN bool_or(reserved_usd IS NULL) THEN NULL ELSE sum(reserved_usd) END AS reserved
    FROM model_calls
    WHERE run_id = $1 AND state = 'claimed' AND lease_until > clock_timestamp()
) AS flight;

-- name: agent_spending
-- The same of one step ($2) with all below it ($2/…).
WITH calls AS (
    SELECT call_key, state, lease_until, reserved_usd
    FROM model_calls
    WHERE run_id = $1
        AND (step COLLATE "C" = $2 OR (step COLLATE "C" >= $2 || '/' AND step COLLATE "C" < $2 || '0'))
)
SELECT
    (SELECT coalesce(sum(a.cost_usd), 0) FROM calls JOIN model_attempts AS a USING (call_key)) AS spent,
    count(*) AS in_flight,
    CASE WHEN bool_or(reserved_usd IS NULL) THEN NULL ELSE sum(reserved_usd) END AS reserved
FROM calls
WHERE state = 'claimed' AND lease_until > clock_timestamp();

-- name: project_spending
-- The same of all runs of project $1 since the day or month ($2) began, in UTC.
WITH of_project AS (
    SELECT run_id FROM runs WHERE coalesce(snapshot ->> 'name', target) = $1
)
SELECT
    (
        SELECT coalesce(sum(a.cost_usd), 0)
        FROM of_project JOIN model_attempts AS a USING (run_id)
        WHERE a.started_at >= date_trunc($2, now(), 'UTC')
    ) AS spent,
    count(*) AS in_flight,
    CASE WHEN bool_or(c.reserved_usd IS NULL) THEN NULL ELSE sum(c.reserved_usd) END AS reserved
FROM of_project
JOIN model_calls AS c USING (run_id)
WHERE c.state = 'claimed' AND c.lease_until > clock_timestamp();

-- name: usage
-- What a run asked of models.
SELECT
    (SELECT coalesce(sum(replays), 0)::bigint FROM model_calls WHERE run_id = $1) AS replayed,
    count(*) AS calls,
    coalesce(sum(input_tokens), 0)::bigint AS input_tokens,
    coalesce(sum(output_tokens), 0)::bigint AS output_tokens,
    CASE WHEN bool_or(cost_usd IS NULL) THEN NULL ELSE coalesce(sum(cost_usd), 0) END AS cost_usd
FROM model_attempts
WHERE run_id = $1 AND outcome IN ('answered', 'duplicate');

-- name: usage_of_step
-- What one step ($2) with all below it ($2/…) asked of models; '0' follows '/'.
WITH calls AS (
    SELECT call_key, replays
    FROM model_calls
    WHERE run_id = $1
        AND (step COLLATE "C" = $2 OR (step COLLATE "C" >= $2 || '/' AND step COLLATE "C" < $2 || '0'))
)
SELECT
    (SELECT coalesce(sum(replays), 0)::bigint FROM calls) AS replayed,
    count(*) AS calls,
    coalesce(sum(a.input_tokens), 0)::bigint AS input_tokens,
    coalesce(sum(a.output_tokens), 0)::bigint AS output_tokens,
    CASE WHEN bool_or(a.cost_usd IS NULL) THEN NULL ELSE coalesce(sum(a.cost_usd), 0) END AS cost_usd
FROM calls
JOIN model_attempts AS a USING (call_key)
WHERE a.outcome IN ('answered', 'duplicate');

-- name: receipt
-- One call's figures.
SELECT call_key, state, attempts, replays, input_tokens, output_tokens, cost_usd FROM model_calls WHERE call_key = $1;

-- name: receipt_of_identity
-- The newest call of an identity.
SELECT call_key, state, attempts, replays, input_tokens, output_tokens, cost_usd FROM model_calls
WHERE run_id = $1 AND workflow_id = $2 AND step = $3 AND ordinal = $4
ORDER BY created_at DESC LIMIT 1;

-- name: calls_list
-- The newest calls, of one run or of all ($1 null), first made at $3 or later (null: whenever).
SELECT call_key, run_id, workflow_id, step, agent, ordinal, provider, model, tier, state, attempts, replays,
    response_status, input_tokens, output_tokens, cost_usd, replays * cost_usd AS saved_usd, priced, created_at,
    answered_at,
    (SELECT a.error FROM model_attempts AS a WHERE a.call_key = c.call_key AND a.error IS NOT NULL
        ORDER BY a.started_at DESC LIMIT 1) AS last_error
FROM model_calls AS c
WHERE ($1::uuid IS NULL OR run_id = $1) AND ($3::timestamptz IS NULL OR created_at >= $3)
ORDER BY created_at DESC
LIMIT $2;

-- name: costs
-- What calls took, summed by run, agent, model, tier, project or day ($1); of one run or of all ($2 null), first
-- made at $3 or later (null: whenever).
SELECT
    of_call.name,
    of_call.run_id,
    coalesce(sum(bought.calls), 0)::bigint AS calls,
    sum(of_call.replays)::bigint AS replayed_calls,
    coalesce(sum(bought.input_tokens), 0)::bigint AS input_tokens,
    coalesce(sum(bought.output_tokens), 0)::bigint AS output_tokens,
    CASE WHEN coalesce(sum(bought.calls), 0) = 0 THEN 0 ELSE sum(bought.cost_usd) END AS cost_usd,
    coalesce(sum(bought.unpriced), 0)::bigint AS unpriced_calls,
    coalesce(sum(bought.lost), 0)::bigint AS lost_attempts,
    CASE
        WHEN sum(of_call.replays) = 0 THEN 0
        ELSE sum(of_call.replays * of_call.cost_usd) FILTER (WHERE of_call.replays > 0)
    END AS saved_usd,
    array_agg(DISTINCT of_call.model ORDER BY of_call.model) AS models,
    coalesce(array_agg(DISTINCT of_call.tier) FILTER (WHERE of_call.tier IS NOT NULL), '{}') AS tiers
FROM (
    SELECT
        c.call_key,
        c.replays,
        c.cost_usd,
        c.tier,
        c.provider || '/' || c.model AS model,
        CASE WHEN $1 = 'run' THEN c.run_id END AS run_id,
        CASE $1
            WHEN 'run' THEN c.workflow_id
            WHEN 'agent' THEN c.agent
            WHEN 'model' THEN c.provider || '/' || c.model
            WHEN 'tier' THEN coalesce(c.tier, '-')
            WHEN 'project' THEN coalesce(r.snapshot ->> 'name', r.target, '-')
            ELSE to_char(c.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')
        END AS name
    FROM model_calls AS c
    LEFT JOIN runs AS r USING (run_id)
    WHERE ($2::uuid IS NULL OR c.run_id = $2) AND ($3::timestamptz IS NULL OR c.created_at >= $3)
) AS of_call
CROSS JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE a.outcome <> 'lost') AS calls,
        count(*) FILTER (WHERE a.outcome = 'lost') AS lost,
        count(*) FILTER (WHERE a.outcome <> 'lost' AND a.cost_usd IS NULL) AS unpriced,
        sum(a.input_tokens) AS input_tokens,
        sum(a.output_tokens) AS output_tokens,
        sum(a.cost_usd) AS cost_usd
    FROM model_attempts AS a
    WHERE a.call_key = of_call.call_key AND a.outcome IN ('answered', 'duplicate', 'lost')
) AS bought
GROUP BY of_call.name, of_call.run_id
ORDER BY CASE WHEN $1 = 'day' THEN of_call.name END DESC, cost_usd DESC NULLS LAST, calls DESC, of_call.name;
