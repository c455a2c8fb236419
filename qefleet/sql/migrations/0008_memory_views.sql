-- What a step's model is shown of memory.

CREATE TABLE memory_views (
    run_id uuid NOT NULL,
    step text NOT NULL,
    shown bytea NOT NULL,
    PRIMARY KEY (run_id, step)
);
