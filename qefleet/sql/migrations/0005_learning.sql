-- Strategies chosen for the items of a step, why, and what they were rewarded with; patterns by project.

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
    strategy text NOT NULL,
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
    PRIMARY KEY (run_id, step, item),
    CONSTRAINT choices_reason_known CHECK (reason IN ('fixed', 'explored', 'untried', 'best'))
);
CREATE INDEX choices_by_agent ON choices (agent, chosen_at);

-- Nothing has ever been written to it before.
ALTER TABLE patterns ADD COLUMN project text NOT NULL DEFAULT '';
ALTER TABLE patterns ADD COLUMN score double precision NOT NULL DEFAULT 0;
ALTER TABLE patterns ADD COLUMN retired_at timestamptz;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX patterns_by_project ON patterns (agent, project);
