-- name: operation_results
-- What several steps gave.
SELECT step, result FROM operations WHERE run_id = $1 AND step = ANY ($2::text[]);

-- name: operation_contexts
-- The same, of those only whose result is an object with a `context` for all that follow.
SELECT step, result FROM operations WHERE run_id = $1 AND step = ANY ($2::text[]) AND adds_context;

-- name: messages_of
-- What several steps said.
SELECT step, role, content FROM messages WHERE run_id = $1 AND step = ANY ($2::text[]) ORDER BY step, position;

-- name: record_operation
-- Notes a step's result; the first one stands, and a row comes back only for that one.
INSERT INTO operations (run_id, step, branch, result, adds_context) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (run_id, step) DO NOTHING
RETURNING step;

-- name: record_message
-- Notes one message of a step.
INSERT INTO messages (run_id, step, position, role, content) VALUES ($1, $2, $3, $4, $5);

-- name: take_operation
-- Takes a step's result over from another run: run $1 and step $2 on branch $3, from run $4 and step $5.
INSERT INTO operations (run_id, step, branch, result, adds_context)
SELECT $1, $2, $3, result, adds_context FROM operations WHERE run_id = $4 AND step = $5
ON CONFLICT (run_id, step) DO NOTHING
RETURNING step;

-- name: take_messages
-- Takes over what that step said.
INSERT INTO messages (run_id, step, position, role, content)
SELECT $1, $2, position, role, content FROM messages WHERE run_id = $3 AND step = $4;
