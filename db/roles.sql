-- The role that the service runs as: it may append to the log and move the projection, and nothing else.
-- Run once as the owner of the tables, after `daybook migrate` and after each upgrade; running it again does no harm:
--     psql "$DATABASE_URL_DIRECT" -f db/roles.sql
-- then give it to the login that DATABASE_URL names:
--     CREATE ROLE daybook_service LOGIN PASSWORD '…' IN ROLE daybook_app;
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'daybook_app') THEN
        CREATE ROLE daybook_app NOLOGIN;
    END IF;
END
$$;
REVOKE ALL ON streams, events, tasks, alembic_version FROM daybook_app;
GRANT SELECT, INSERT, UPDATE ON streams TO daybook_app;
GRANT SELECT, INSERT ON events TO daybook_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON tasks TO daybook_app;
GRANT SELECT ON alembic_version TO daybook_app;
