-- What the nodes of lionagi graphs gave and said. A branch's conversation is the messages of its steps, each
-- written once by the step that said them: steps that run at once never touch each other's rows.
-- Nothing has ever been written to the two tables that go.

-- squawk-ignore ban-drop-table
DROP TABLE messages;
-- squawk-ignore ban-drop-table
DROP TABLE conversations;

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
