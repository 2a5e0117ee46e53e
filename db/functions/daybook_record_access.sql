-- Put an auditor's read of a user's log on record. A second call with the same id does nothing, so it may be repeated if
-- the answer to the first one was lost.
--
-- It runs with its owner's rights, so that the service may add a record, and never change one (docs/adr/0036).
CREATE FUNCTION daybook_record_access(
    p_user_id text,             -- the user whose log is read
    p_id uuid,
    p_at timestamptz,
    p_auditor text,             -- the user of the auditor's token
    p_actor text,               -- who acts with that token
    p_path text,
    p_request_id text
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    -- An answer is sent once its record is kept: that must survive a crash, whatever the server's settings say.
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    INSERT INTO accesses (user_id, id, at, auditor, actor, path, request_id)
    VALUES (p_user_id, p_id, p_at, p_auditor, p_actor, p_path, p_request_id)
    ON CONFLICT (user_id, id) DO NOTHING;
END
$$;
