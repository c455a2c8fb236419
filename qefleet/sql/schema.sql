-- The schema as it stands: the truth that the migrations arrive at (a test proves it). Change it together with
-- a new migration. Text that models wrote is bytea: JSON columns refuse NUL and lone surrogates.

CREATE TABLE runs (
    run_id uuid PRIMARY KEY,
    workflow_id text NOT NULL,
    pattern text NOT NULL,
    input jsonb NOT NULL,
    plan jsonb,
    model text NOT NULL,
    budget_usd numeric,
    target text NOT NULL,
    snapshot jsonb,
    environment jsonb,
    decision text,
    result jsonb,
    opened_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
    CONSTRAINT runs_budget_positive CHECK (budget_usd > 0),
    CONSTRAINT runs_decision_known CHECK (decision IN ('GO', 'CONDITIONAL', 'NO_GO'))
);
CREATE INDEX runs_by_workflow ON runs (workflow_id, opened_at);
CREATE INDEX runs_by_time ON runs (opened_at);

CREATE TABLE steps (
    run_id uuid NOT NULL,
    step text NOT NULL,
    agent text NOT NULL,
    status text NOT NULL,
    result jsonb NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, step),
    CONSTRAINT steps_status_known CHECK (status IN ('completed', 'failed', 'cancelled'))
);
-- `gen#1` and all of its items `gen#1/0`, `gen#1/1`, …
CREATE INDEX steps_by_planned ON steps (run_id, split_part(step, '/', 1));

CREATE TABLE items (
    run_id uuid NOT NULL,
    source text NOT NULL,
    ordinal bigint NOT NULL,
    item jsonb NOT NULL,
    PRIMARY KEY (run_id, source, ordinal)
);

CREATE TABLE artifacts (
    digest text PRIMARY KEY,
    media_type text NOT NULL,
    size_bytes bigint NOT NULL,
    content bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT artifacts_digest_is_sha256 CHECK (digest ~ '^[0-9a-f]{64}$'),
    CONSTRAINT artifacts_size_is_true CHECK (size_bytes = length(content))
);
-- Archives and reports are compressed before they come here.
ALTER TABLE artifacts ALTER COLUMN content SET STORAGE EXTERNAL;

CREATE TABLE model_calls (
    call_key text PRIMARY KEY,
    run_id uuid NOT NULL,
    workflow_id text NOT NULL,
    step text NOT NULL,
    agent text NOT NULL,
    ordinal bigint NOT NULL,
    request_digest text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    state text NOT NULL,
    lease_owner uuid,
    lease_until timestamptz,
    reserved_usd numeric,
    attempts bigint NOT NULL DEFAULT 0,
    replays bigint NOT NULL DEFAULT 0,
    request bytea NOT NULL,
    response bytea,
    response_status bigint,
    response_headers jsonb,
    input_tokens bigint,
    output_tokens bigint,
    cost_usd numeric,
    priced boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    answered_at timestamptz,
    CONSTRAINT model_calls_state_known CHECK (state IN ('open', 'claimed', 'answered')),
    CONSTRAINT model_calls_claim_has_lease CHECK (
        state <> 'claimed' OR (lease_owner IS NOT NULL AND lease_until IS NOT NULL)
    ),
    CONSTRAINT model_calls_answer_is_there CHECK (
        state <> 'answered' OR (response IS NOT NULL AND response_status IS NOT NULL AND answered_at IS NOT NULL)
    )
);
CREATE INDEX model_calls_by_run ON model_calls (run_id, step, ordinal);
-- A step and all calls below it, as a range.
CREATE INDEX model_calls_below_step ON model_calls (run_id, step COLLATE "C");
CREATE INDEX model_calls_by_time ON model_calls (created_at);
CREATE INDEX model_calls_in_flight ON model_calls (run_id) WHERE state = 'claimed';

CREATE TABLE model_attempts (
    attempt_id uuid PRIMARY KEY,
    call_key text NOT NULL REFERENCES model_calls (call_key) ON DELETE CASCADE,
    run_id uuid NOT NULL,
    outcome text NOT NULL,
    status bigint,
    error text,
    response bytea,
    input_tokens bigint,
    output_tokens bigint,
    cost_usd numeric,
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    CONSTRAINT model_attempts_outcome_known CHECK (
        outcome IN ('running', 'answered', 'duplicate', 'failed', 'lost')
    )
);
CREATE INDEX model_attempts_by_call ON model_attempts (call_key, started_at);
CREATE INDEX model_attempts_by_run ON model_attempts (run_id);

-- A branch's conversation is the messages of its steps, in the graph's order.
CREATE TABLE operations (
    run_id uuid NOT NULL,
    step text NOT NULL,
    branch text NOT NULL,
    result bytea NOT NULL,
    adds_context boolean NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, step)
);

CREATE TABLE messages (
    run_id uuid NOT NULL,
    step text NOT NULL,
    position bigint NOT NULL,
    role text NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (run_id, step, position),
    FOREIGN KEY (run_id, step) REFERENCES operations (run_id, step) ON DELETE CASCADE,
    CONSTRAINT messages_role_known CHECK (role IN ('user', 'assistant'))
);

CREATE TABLE memory (
    partition text NOT NULL DEFAULT 'default',
    key text COLLATE "C" NOT NULL,
    value jsonb NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    run_id uuid,
    step text,
    PRIMARY KEY (partition, key)
);
CREATE INDEX memory_expiring ON memory (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE memory_history (
    partition text NOT NULL,
    key text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    value jsonb,
    changed_at timestamptz NOT NULL DEFAULT now(),
    run_id uuid,
    step text,
    PRIMARY KEY (partition, key, version)
);

CREATE TABLE trajectories (
    run_id uuid NOT NULL,
    step text NOT NULL,
    ordinal bigint NOT NULL,
    agent text NOT NULL,
    state jsonb NOT NULL,
    action text NOT NULL,
    reward double precision,
    measured jsonb NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, step, ordinal)
);
CREATE INDEX trajectories_by_agent ON trajectories (agent, recorded_at);

CREATE TABLE q_values (
    agent text NOT NULL,
    state_key text NOT NULL,
    action text NOT NULL,
    value double precision NOT NULL DEFAULT 0,
    visits bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent, state_key, action)
);

CREATE TABLE patterns (
    pattern_id text PRIMARY KEY,
    agent text NOT NULL,
    name text NOT NULL,
    description text NOT NULL,
    content jsonb NOT NULL,
    uses bigint NOT NULL DEFAULT 0,
    successes bigint NOT NULL DEFAULT 0,
    run_id uuid,
    step text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX patterns_by_agent ON patterns (agent, name);
