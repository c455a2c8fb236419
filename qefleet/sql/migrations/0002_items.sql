-- Expansions: lists of items as rows, item steps below a planned step, and steps that were cancelled.
-- Ignored: waits that matter with millions of rows. A fleet is stopped while it migrates, and each file is one
-- transaction, in which nothing can be concurrent.

CREATE TABLE items (
    run_id uuid NOT NULL,
    source text NOT NULL,
    ordinal bigint NOT NULL,
    item jsonb NOT NULL,
    PRIMARY KEY (run_id, source, ordinal)
);

-- `gen#1` and all of its items `gen#1/0`, `gen#1/1`, …
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX steps_by_planned ON steps (run_id, split_part(step, '/', 1));

-- A step and all calls below it, as a range.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX model_calls_below_step ON model_calls (run_id, step COLLATE "C");

-- The next statement puts a wider one in its place.
-- squawk-ignore ban-drop-constraint
ALTER TABLE steps DROP CONSTRAINT steps_status_known;
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE steps ADD CONSTRAINT steps_status_known CHECK (status IN ('completed', 'failed', 'cancelled'));
