-- The role that the service runs as: it may read, append to the log, erase content after an event that records
-- it, put auditors' reads on record, and nothing else (docs/adr/0025, 0036 and 0037).
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
REVOKE ALL ON streams, events, tasks, accesses, alembic_version FROM daybook_app;
GRANT SELECT ON streams, events, tasks, accesses, alembic_version TO daybook_app;
-- Again, since a restore without privileges gives it to everybody.
REVOKE EXECUTE ON FUNCTION
    daybook_append, daybook_append_many, daybook_erase, daybook_lock_stream, daybook_record_access
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    daybook_append, daybook_append_many, daybook_erase, daybook_lock_stream, daybook_record_access
TO daybook_app;
