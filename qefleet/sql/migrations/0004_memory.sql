-- Memory by project: row-level security, exact values, words to search by, vectors, and versions that are kept
-- whoever writes.
-- Ignored: waits that matter with millions of rows. A fleet is stopped while it migrates, and each file is one
-- transaction, in which nothing can be concurrent.

ALTER TABLE memory ADD COLUMN project text NOT NULL DEFAULT 'default';
ALTER TABLE memory ADD COLUMN exact bytea;
ALTER TABLE memory ADD COLUMN words tsvector NOT NULL DEFAULT '';
UPDATE memory SET
    project = coalesce(
        (SELECT r.snapshot ->> 'name' FROM runs AS r WHERE r.run_id = memory.run_id), 'default'
    ),
    words = coalesce(
        (
            SELECT array_to_tsvector(array_agg(DISTINCT left(found.word [1], 32)))
            FROM regexp_matches(lower(key || ' ' || value::text), '[[:alnum:]]+', 'g') AS found (word)
        ),
        ''
    );
-- squawk-ignore ban-drop-default
ALTER TABLE memory ALTER COLUMN project DROP DEFAULT;
-- squawk-ignore ban-drop-constraint
ALTER TABLE memory DROP CONSTRAINT memory_pkey;
-- squawk-ignore constraint-missing-not-valid, adding-serial-primary-key-field
ALTER TABLE memory ADD PRIMARY KEY (project, partition, key);

-- squawk-ignore require-concurrent-index-creation
CREATE INDEX memory_by_update ON memory (project, partition, updated_at);

ALTER TABLE memory_history ADD COLUMN project text NOT NULL DEFAULT 'default';
ALTER TABLE memory_history ADD COLUMN exact bytea;
UPDATE memory_history SET
    project = coalesce(
        (SELECT r.snapshot ->> 'name' FROM runs AS r WHERE r.run_id = memory_history.run_id), 'default'
    );
-- squawk-ignore ban-drop-default
ALTER TABLE memory_history ALTER COLUMN project DROP DEFAULT;
-- squawk-ignore ban-drop-constraint
ALTER TABLE memory_history DROP CONSTRAINT memory_history_pkey;
-- squawk-ignore constraint-missing-not-valid, adding-serial-primary-key-field
ALTER TABLE memory_history ADD PRIMARY KEY (project, partition, key, version);
-- squawk-ignore require-concurrent-index-creation
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
