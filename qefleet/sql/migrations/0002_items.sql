-- Expansions: lists of items as rows, item steps below a planned step, and steps that were cancelled.

CREATE TABLE items (
    run_id uuid NOT NULL,
    source text NOT NULL,
    ordinal bigint NOT NULL,
    item jsonb NOT NULL,
    PRIMARY KEY (run_id, source, ordinal)
);

-- `gen#1` and all of its items `gen#1/0`, `gen#1/1`, …
CREATE INDEX steps_by_planned ON steps (run_id, split_part(step, '/', 1));

-- A step and all calls below it, as a range.
CREATE INDEX model_calls_below_step ON model_calls (run_id, step COLLATE "C");

ALTER TABLE steps DROP CONSTRAINT steps_status_known;
ALTER TABLE steps ADD CONSTRAINT steps_status_known CHECK (status IN ('completed', 'failed', 'cancelled')) NOT VALID;
ALTER TABLE steps VALIDATE CONSTRAINT steps_status_known;
