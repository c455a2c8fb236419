-- Statements about roles, run by `qe migrate` after the migrations: roles belong to the server, not to a database.

-- name: role_exists
-- Whether the runtime role is there.
SELECT count(*) > 0 FROM pg_roles WHERE rolname = 'qe_runtime';

-- name: may_create_roles
-- Whether this user may make roles.
SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user;

-- name: create_role
-- The role that workers and commands have: it reads and writes rows, and nothing else.
CREATE ROLE qe_runtime NOLOGIN;

-- name: may_become
-- Whether this connection's user may act as the runtime role.
SELECT coalesce(
    (SELECT pg_has_role(current_user, oid, 'SET') FROM pg_roles WHERE rolname = 'qe_runtime')
    AND has_table_privilege('qe_runtime', to_regclass('memory'), 'SELECT'),
    false
);

-- name: become
-- Act as the runtime role from here on.
SET ROLE qe_runtime;

-- name: owns_schema
-- Whether this user made the tables, or may do as if.
SELECT coalesce(
    (SELECT pg_has_role(current_user, relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('schema_migrations')),
    true
);

-- name: grant_rows
-- Rows of the fleet's tables for the runtime role; which role is confined to which project, it may only read.
DO $$
DECLARE name text;
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO qe_runtime', current_schema());
    FOR name IN
        SELECT c.oid::regclass FROM pg_class AS c
        INNER JOIN pg_class AS own ON own.oid = to_regclass('schema_migrations')
        WHERE c.relnamespace = own.relnamespace AND c.relowner = own.relowner AND c.relkind = 'r'
    LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO qe_runtime', name);
    END LOOP;
    REVOKE INSERT, UPDATE, DELETE ON memory_roles, schema_migrations FROM qe_runtime;
END $$;

-- name: close_schema
-- Nobody but the owner makes tables here.
DO $$ BEGIN
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
END $$;

-- name: temporary_tables
-- Nobody but the owner makes temporary tables here.
DO $$ BEGIN
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
END $$;

-- name: install_vectors
-- pgvector, where the server has it.
CREATE EXTENSION IF NOT EXISTS vector;

-- name: confine
-- Confines a role to one project's memory.
INSERT INTO memory_roles (role, project) VALUES ($1, $2)
ON CONFLICT (role) DO UPDATE SET project = excluded.project;

-- name: grant_memory
-- The memory's tables for a confined role.
DO $$ BEGIN
    EXECUTE format(
        'GRANT SELECT, INSERT, UPDATE, DELETE ON memory, memory_history, memory_vectors TO %I',
        current_setting('qe.role')
    );
    EXECUTE format('GRANT SELECT ON memory_roles TO %I', current_setting('qe.role'));
END $$;
