-- Erase the content of these events of one user, for which their inner digests are given, and return their number.
-- Events whose content was erased before are left as they are.
--
-- The trigger lets it pass only with the right digests, and after the events that record the erasure
-- (daybook_guard_content.sql). So the service's login can't change anything else by it.
CREATE FUNCTION daybook_erase(p_user_id text, p_seq bigint[], p_personal bytea[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    erased bigint;
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    UPDATE events AS e SET
        data = NULL, request_id = NULL, client_address = NULL, client_agent = NULL, idempotency_key = NULL,
        fingerprint = NULL, salt = NULL, personal = given.personal
    FROM unnest(p_seq, p_personal) AS given (seq, personal)
    WHERE e.user_id = p_user_id AND e.seq = given.seq AND e.personal IS NULL;
    GET DIAGNOSTICS erased = ROW_COUNT;
    RETURN erased;
END
$$;
