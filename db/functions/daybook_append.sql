-- Append events to one user's stream and move the projection along with each. Return a row for each event, in order.
--
-- The user's row of `streams` is locked first, until the transaction ends: so that a user's events are numbered without
-- a gap, and writers of one user can't deadlock. A statement after the lock sees everything that earlier holders
-- committed, a rebuild's rows too (READ COMMITTED). Each event is written with its change to `tasks`, or not at all:
-- it has a subtransaction, so that its failure doesn't fail its neighbours.
--
-- `outcome` is null if the event was written; else an SQLSTATE, of Postgres or one of these:
--   LG001  the stream is locked by another transaction, or it has no event yet, and p_wait is false; or two
--          transactions wrote its first event at once. Send the event again.
--   LG002  another event has this version of the task.
--   LG003  another event of the user has this idempotency key.
--   LG004  the event deletes a row of `tasks` that isn't there (p_on_row).
--   LG005  the stream isn't at event p_after.
--
-- It runs with its owner's rights, so that the service may append, and nothing else (docs/adr/0025).
CREATE FUNCTION daybook_append(
    p_user_id text,
    p_wait boolean,             -- wait for the stream's lock
    p_digest bytea[],           -- from here on, one element for each event
    p_id uuid[],
    p_task_id uuid[],
    p_version integer[],
    p_type text[],
    p_at timestamptz[],
    p_actor text[],
    p_data jsonb[],
    p_request_id text[],
    p_client_address text[],
    p_client_agent text[],
    p_idempotency_key text[],
    p_fingerprint bytea[],
    p_salt bytea[],
    p_after bigint[],           -- the number of the event that must be the stream's last; null: any
    p_on_row boolean[],         -- the event was decided on the task's row, so a deletion must find it
    p_deleted boolean[],        -- the task is deleted; else, its row from here on
    p_created_at timestamptz[],
    p_completed boolean[],
    p_title_key text[],
    p_search_text text[],
    p_document text[],
    p_priority smallint[] DEFAULT NULL, -- from here on, columns that callers of an older release don't know
    p_due_date text[] DEFAULT NULL,
    p_tags text[] DEFAULT NULL,
    p_completed_at timestamptz[] DEFAULT NULL
) RETURNS TABLE (seq bigint, hash bytea, outcome text, message text)
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    last_seq bigint := 0;
    last_hash bytea := '';
    is_new boolean;
    e record;
    violated text;
BEGIN
    -- An acknowledged event must survive a crash, even if the server, the database or the role says otherwise.
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    IF p_wait THEN
        SELECT s.seq, s.hash INTO last_seq, last_hash FROM streams AS s WHERE s.user_id = p_user_id FOR UPDATE;
    ELSE
        SELECT s.seq, s.hash INTO last_seq, last_hash FROM streams AS s WHERE s.user_id = p_user_id
        FOR UPDATE SKIP LOCKED;
    END IF;
    is_new := NOT FOUND;
    IF is_new THEN
        last_seq := 0;
        last_hash := '';
    END IF;
    -- One by one as a record: Citus copies each array that a statement names, as a whole, for each event.
    FOR e IN
        SELECT u.* FROM unnest(
            p_digest, p_id, p_task_id, p_version, p_type, p_at, p_actor, p_data, p_request_id, p_client_address,
            p_client_agent, p_idempotency_key, p_fingerprint, p_salt, p_after, p_on_row, p_deleted, p_created_at,
            p_completed, p_title_key, p_search_text, p_document, p_priority, p_due_date, p_tags, p_completed_at
        ) AS u (
            digest, id, task_id, version, type, at, actor, data, request_id, client_address, client_agent,
            idempotency_key, fingerprint, salt, after, on_row, deleted, created_at, completed, title_key, search_text,
            document, priority, due_date, tags, completed_at
        )
    LOOP
        seq := last_seq + 1;
        hash := sha256(last_hash || e.digest);
        outcome := NULL;
        message := NULL;
        IF is_new AND NOT p_wait THEN
            outcome := 'LG001';
        ELSIF e.after <> last_seq THEN
            outcome := 'LG005';
        ELSE
            BEGIN
                INSERT INTO events (
                    user_id, seq, hash, id, task_id, version, type, at, actor, data,
                    request_id, client_address, client_agent, idempotency_key, fingerprint, salt
                ) VALUES (
                    p_user_id, daybook_append.seq, daybook_append.hash, e.id, e.task_id, e.version, e.type,
                    e.at, e.actor, e.data, e.request_id, e.client_address, e.client_agent,
                    e.idempotency_key, e.fingerprint, e.salt
                );
                IF e.deleted THEN
                    DELETE FROM tasks AS t WHERE t.user_id = p_user_id AND t.id = e.task_id;
                    IF e.on_row AND NOT FOUND THEN
                        RAISE SQLSTATE 'LG004';
                    END IF;
                ELSE
                    INSERT INTO tasks (
                        user_id, id, version, completed, priority, due_date, tags, created_at, updated_at, completed_at,
                        title_key, search_text, document
                    ) VALUES (
                        p_user_id, e.task_id, e.version, e.completed, e.priority, e.due_date, e.tags,
                        e.created_at, e.at, e.completed_at, e.title_key, e.search_text, e.document
                    )
                    ON CONFLICT (user_id, id) DO UPDATE SET
                        version = excluded.version, completed = excluded.completed,
                        priority = excluded.priority, due_date = excluded.due_date, tags = excluded.tags,
                        completed_at = excluded.completed_at, created_at = excluded.created_at,
                        updated_at = excluded.updated_at,
                        title_key = excluded.title_key, search_text = excluded.search_text,
                        document = excluded.document;
                END IF;
                last_seq := seq;
                last_hash := hash;
            EXCEPTION WHEN OTHERS THEN
                GET STACKED DIAGNOSTICS
                    outcome = RETURNED_SQLSTATE, message = MESSAGE_TEXT, violated = CONSTRAINT_NAME;
                IF violated = '' THEN -- from another server of a Citus cluster comes only the message
                    violated := message;
                END IF;
                outcome := CASE
                    WHEN outcome <> '23505' THEN outcome
                    WHEN violated LIKE '%events%task\_version\_key%' THEN 'LG002'
                    WHEN violated LIKE '%events%idempotency\_key%' THEN 'LG003'
                    WHEN violated LIKE '%events%pkey%' AND is_new THEN 'LG001'
                    ELSE outcome
                END;
            END;
        END IF;
        RETURN NEXT;
    END LOOP;
    IF is_new AND last_seq > 0 THEN
        INSERT INTO streams (user_id, seq, hash) VALUES (p_user_id, last_seq, last_hash);
    ELSIF NOT is_new THEN
        UPDATE streams AS s SET seq = last_seq, hash = last_hash WHERE s.user_id = p_user_id AND s.seq <> last_seq;
    END IF;
END
$$;
