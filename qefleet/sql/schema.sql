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
CREATE INDEX runs_by_project ON runs (coalesce(snapshot ->> 'name', target), opened_at);

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
    tier text,
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
CREATE INDEX model_attempts_by_time ON model_attempts (started_at);

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

-- An agent's conversation about a project, over all runs: one row a turn, numbered from 1. What was asked and
-- answered is JSON.
CREATE TABLE conversation_turns (
    project text NOT NULL,
    agent text NOT NULL,
    turn bigint NOT NULL,
    run_id uuid NOT NULL,
    step text NOT NULL,
    asked bytea NOT NULL,
    answered bytea NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project, agent, turn),
    CONSTRAINT conversation_turns_once UNIQUE (run_id, step)
);

-- What a step goes on from, written when it is first asked for: a retry sees the same.
CREATE TABLE conversation_views (
    run_id uuid NOT NULL,
    step text NOT NULL,
    messages bytea NOT NULL,
    PRIMARY KEY (run_id, step)
);

-- What a step's model is shown of memory: written down once, before it is first asked.
CREATE TABLE memory_views (
    run_id uuid NOT NULL,
    step text NOT NULL,
    shown bytea NOT NULL,
    PRIMARY KEY (run_id, step)
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
    project text NOT NULL,
    exact bytea,
    words tsvector NOT NULL DEFAULT '',
    PRIMARY KEY (project, partition, key)
);
CREATE INDEX memory_expiring ON memory (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX memory_by_update ON memory (project, partition, updated_at);

CREATE TABLE memory_history (
    partition text NOT NULL,
    key text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    value jsonb,
    changed_at timestamptz NOT NULL DEFAULT now(),
    run_id uuid,
    step text,
    project text NOT NULL,
    exact bytea,
    PRIMARY KEY (project, partition, key, version)
);
CREATE INDEX memory_history_by_time ON memory_history (changed_at);

-- An entry's vector, of one version of it. An array, so that databases without pgvector have the table too.
CREATE TABLE memory_vectors (
    project text NOT NULL,
    partition text NOT NULL,
    key text COLLATE "C" NOT NULL,
    model text NOT NULL,
    version bigint NOT NULL,
    embedding real [] NOT NULL,
    PRIMARY KEY (project, partition, key, model),
    FOREIGN KEY (project, partition, key) REFERENCES memory (project, partition, key) ON DELETE CASCADE
);

-- Roles that are confined to one project, whatever they set.
CREATE TABLE memory_roles (
    role text PRIMARY KEY,
    project text NOT NULL
);
ALTER TABLE memory_roles ENABLE ROW LEVEL SECURITY;
CREATE POLICY memory_roles_own ON memory_roles USING (role = current_user);

-- The project whose rows there are: of a confined role its own, else what the transaction has set; `*` lets read all.
-- The body is bound to its table when it is made: no temporary table can stand in for it.
CREATE FUNCTION memory_project() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(
    (SELECT r.project FROM memory_roles AS r WHERE r.role = current_user),
    nullif(current_setting('qe.project', true), '')
);

ALTER TABLE memory ENABLE ROW LEVEL SECURITY;
ALTER TABLE memory FORCE ROW LEVEL SECURITY;
CREATE POLICY memory_of_project ON memory USING (project = (SELECT memory_project()));
CREATE POLICY memory_of_all ON memory FOR SELECT USING ((SELECT memory_project()) = '*');

ALTER TABLE memory_history ENABLE ROW LEVEL SECURITY;
ALTER TABLE memory_history FORCE ROW LEVEL SECURITY;
CREATE POLICY memory_history_of_project ON memory_history USING (project = (SELECT memory_project()));
CREATE POLICY memory_history_of_all ON memory_history FOR SELECT USING ((SELECT memory_project()) = '*');

ALTER TABLE memory_vectors ENABLE ROW LEVEL SECURITY;
ALTER TABLE memory_vectors FORCE ROW LEVEL SECURITY;
CREATE POLICY memory_vectors_of_project ON memory_vectors USING (project = (SELECT memory_project()));
CREATE POLICY memory_vectors_of_all ON memory_vectors FOR SELECT USING ((SELECT memory_project()) = '*');

-- What was there goes into the history, and versions rise, with every way of writing.
CREATE FUNCTION memory_keep_version() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.version := 1 + coalesce(
            (
                SELECT max(h.version) FROM memory_history AS h
                WHERE h.project = NEW.project AND h.partition = NEW.partition AND h.key = NEW.key
            ),
            0
        );
        RETURN NEW;
    END IF;
    INSERT INTO memory_history (project, partition, key, version, value, exact, changed_at, run_id, step)
    VALUES (
        OLD.project, OLD.partition, OLD.key, OLD.version, OLD.value, OLD.exact, OLD.updated_at, OLD.run_id, OLD.step
    )
    ON CONFLICT DO NOTHING;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    NEW.version := OLD.version + 1;
    RETURN NEW;
END
$$;
CREATE TRIGGER memory_keep_version BEFORE INSERT OR UPDATE OR DELETE ON memory
FOR EACH ROW EXECUTE FUNCTION memory_keep_version();

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

CREATE TABLE choices (
    run_id uuid NOT NULL,
    step text NOT NULL,
    item text NOT NULL,
    ordinal bigint NOT NULL,
    agent text NOT NULL,
    project text NOT NULL,
    policy text NOT NULL,
    state_key text NOT NULL,
    state jsonb NOT NULL,
    reason text NOT NULL,
    alternatives jsonb NOT NULL,
    epsilon double precision NOT NULL,
    rewards_before bigint NOT NULL,
    recalled text [] NOT NULL,
    reward double precision,
    value_before double precision,
    value_after double precision,
    chosen_at timestamptz NOT NULL DEFAULT now(),
    rewarded_at timestamptz,
    decision text NOT NULL DEFAULT 'strategy',
    action text NOT NULL,
    reward_so_far double precision,
    PRIMARY KEY (run_id, step, item, decision),
    CONSTRAINT choices_reason_known CHECK (reason IN ('fixed', 'explored', 'untried', 'best'))
);
CREATE INDEX choices_by_agent ON choices (agent, chosen_at);

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
    updated_at timestamptz NOT NULL DEFAULT now(),
    project text NOT NULL DEFAULT '',
    score double precision NOT NULL DEFAULT 0,
    retired_at timestamptz
);
CREATE INDEX patterns_by_agent ON patterns (agent, name);
CREATE INDEX patterns_by_project ON patterns (agent, project);
