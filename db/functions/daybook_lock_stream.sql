-- Lock a user's stream until the transaction ends, and return the number and hash of its last event. A user without
-- events has no stream yet: then nothing is locked, and no row is returned.
--
-- If the client disappears, which the network may not tell the server, the server ends the transaction, and so the lock.
CREATE FUNCTION daybook_lock_stream(p_user_id text) RETURNS TABLE (seq bigint, hash bytea)
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM set_config('idle_in_transaction_session_timeout', '10s', true);
    RETURN QUERY SELECT s.seq, s.hash FROM streams AS s WHERE s.user_id = p_user_id FOR UPDATE;
END
$$;
