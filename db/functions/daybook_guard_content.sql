-- Refuse every update of the log but one: content gives way to its inner digest, from which the event's hash still
-- follows, after an event that says that the task was erased. Events that record erasures keep theirs, whatever follows
-- them. It is held to this whoever makes the update.
--
-- The trigger runs in a partition or a shard, which has all events of the user.
CREATE FUNCTION daybook_guard_content() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    content CONSTANT text[] := ARRAY[
        'data', 'request_id', 'client_address', 'client_agent', 'idempotency_key', 'fingerprint', 'salt', 'personal'
    ];
    before bytea; -- the hash of the event before; null of the first
    ending text;
    header text;
BEGIN
    IF OLD.personal IS NULL AND NEW.personal IS NOT NULL AND OLD.type NOT IN ('TaskErased', 'UserErased')
        AND num_nonnulls(
            NEW.data, NEW.request_id, NEW.client_address, NEW.client_agent, NEW.idempotency_key, NEW.fingerprint,
            NEW.salt
        ) = 0
        AND to_jsonb(NEW) - content = to_jsonb(OLD) - content
    THEN
        EXECUTE format('SELECT hash FROM %s WHERE user_id = $1 AND seq = $2', TG_RELID::regclass)
        INTO before USING OLD.user_id, OLD.seq - 1;
        EXECUTE format(
            'SELECT type FROM %s WHERE user_id = $1 AND task_id = $2 AND version > $3 ORDER BY version DESC LIMIT 1',
            TG_RELID::regclass
        )
        INTO ending USING OLD.user_id, OLD.task_id, OLD.version;
        header := format(
            '{"actor":%s,"at":"%s","id":"%s","task_id":"%s","type":%s,"user_id":%s,"version":%s}',
            to_json(OLD.actor), to_char(OLD.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), OLD.id,
            OLD.task_id, to_json(OLD.type), to_json(OLD.user_id), OLD.version
        );
        IF ending = 'TaskErased'
            AND OLD.hash = sha256(coalesce(before, '') || sha256(convert_to(header, 'UTF8') || NEW.personal))
        THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION '% on % refused: the log is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = 'Write an event that undoes the other one instead.';
END
$$;
