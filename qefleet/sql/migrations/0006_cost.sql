-- Which tier of models a call was for; spending of a project over its runs; what agents' conversations hold.
-- Ignored: waits that matter with millions of rows. A fleet is stopped while it migrates, and each file is one
-- transaction, in which nothing can be concurrent.

ALTER TABLE model_calls ADD COLUMN tier text;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX model_attempts_by_time ON model_attempts (started_at);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX runs_by_project ON runs (coalesce(snapshot ->> 'name', target), opened_at);

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

CREATE TABLE conversation_views (
    run_id uuid NOT NULL,
    step text NOT NULL,
    messages bytea NOT NULL,
    PRIMARY KEY (run_id, step)
);
