-- The tables. Rules for every later migration: forward only, and each step suits
-- both the old and the new code (add first, remove in a later release).
--
-- Every constraint has a name of its own, because the services map a violation
-- to a field of the request by that name.

-- Versions -----------------------------------------------------------------

-- One sequence numbers every change of every cached row. A version therefore
-- grows along the life of a row and goes on growing when a row is deleted and
-- created again, which is what lets a cache compare two versions of one key.
CREATE SEQUENCE row_version AS bigint;

CREATE FUNCTION assign_row_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Postgres has locked the row by now, so versions of one row are given out
    -- in the order in which its changes commit.
    NEW.version := nextval('row_version');
    IF TG_OP = 'UPDATE' THEN
        NEW.created_at := OLD.created_at;
        NEW.updated_at := now();
    END IF;
    RETURN NEW;
END
$$;

-- The outbox of changes ----------------------------------------------------

-- Every committed change of a cached row, in an order that can be replayed.
-- Readers take the rows of finished transactions only:
--     WHERE xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY xid, position
-- A position alone would not do: it is taken before the commit, so a slow
-- transaction could fill a gap behind a reader. The price: transaction ids are
-- those of the whole server, so a long transaction in any database holds readers up.
CREATE TABLE cache_outbox (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    position bigint GENERATED ALWAYS AS IDENTITY,
    entity text NOT NULL,
    -- Both are null when the whole table was truncated.
    entity_id uuid,
    entity_key text COLLATE "C",
    version bigint NOT NULL,
    operation text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT cache_outbox_pkey PRIMARY KEY (xid, position),
    CONSTRAINT cache_outbox_operation_known CHECK (operation IN ('upsert', 'delete', 'truncate')),
    CONSTRAINT cache_outbox_names_a_row
        CHECK ((operation = 'truncate') = (entity_id IS NULL) AND (entity_id IS NULL) = (entity_key IS NULL))
);

-- Serves the tombstone check below and holds tombstones only, so that an
-- ordinary change does not pay for it.
CREATE INDEX cache_outbox_tombstones ON cache_outbox (entity, entity_key, version)
    WHERE operation = 'delete';

-- Four trigger functions serve every cached table; the trigger's arguments name
-- the entity and the column that holds its second key. They work on whole
-- statements, so that loading many rows stays one insert.
CREATE FUNCTION outbox_after_insert() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    overtaken boolean;
BEGIN
    EXECUTE format(
        'INSERT INTO cache_outbox (entity, entity_id, entity_key, version, operation)
         SELECT %L, id, %I, version, ''upsert'' FROM new_rows', TG_ARGV[0], TG_ARGV[1]);
    -- An insert may take its version, wait for the deletion of the same key to
    -- commit, and then be older than the tombstone. It must not survive: caches
    -- would hold on to the tombstone. Such a writer tries again.
    EXECUTE format(
        'SELECT EXISTS (SELECT FROM new_rows n JOIN cache_outbox t
            ON t.entity = %L AND t.entity_key = n.%I AND t.operation = ''delete''
            AND t.version > n.version)', TG_ARGV[0], TG_ARGV[1]) INTO overtaken;
    IF overtaken THEN
        RAISE EXCEPTION 'the key was deleted while it was created again'
            USING ERRCODE = 'serialization_failure', TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION outbox_after_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'INSERT INTO cache_outbox (entity, entity_id, entity_key, version, operation)
         SELECT %L, id, %I, version, ''upsert'' FROM new_rows', TG_ARGV[0], TG_ARGV[1]);
    RETURN NULL;
END
$$;

-- A deletion is a change with a version of its own: the tombstone. The deleting
-- session finds it with currval('row_version').
CREATE FUNCTION outbox_after_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'INSERT INTO cache_outbox (entity, entity_id, entity_key, version, operation)
         SELECT %L, id, %I, nextval(''row_version''), ''delete'' FROM old_rows', TG_ARGV[0], TG_ARGV[1]);
    RETURN NULL;
END
$$;

CREATE FUNCTION outbox_after_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO cache_outbox (entity, version, operation)
    VALUES (TG_ARGV[0], nextval('row_version'), 'truncate');
    RETURN NULL;
END
$$;

-- Keys by which rows are cached never change: an update would leave the old key
-- in every cache with nothing to invalidate it.
CREATE FUNCTION refuse_key_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the key of % cannot be changed', TG_TABLE_NAME
        USING ERRCODE = 'check_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = TG_TABLE_NAME || '_key_immutable';
END
$$;

-- Tokens -------------------------------------------------------------------

CREATE TABLE tokens (
    id uuid NOT NULL,
    -- Base58 of 32 bytes. Collation "C" makes the order of pages the order of
    -- bytes, the same on every server.
    mint text COLLATE "C" NOT NULL,
    symbol text NOT NULL,
    name text NOT NULL,
    decimals smallint NOT NULL,
    -- {"logo_uri": text, "tags": [text], "extensions": {text: text}}; a key that
    -- is unknown is absent.
    metadata jsonb NOT NULL DEFAULT '{}',
    version bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT tokens_pkey PRIMARY KEY (id),
    CONSTRAINT tokens_mint_key UNIQUE (mint),
    CONSTRAINT tokens_mint_is_base58 CHECK (mint ~ '^[1-9A-HJ-NP-Za-km-z]{32,44}$'),
    CONSTRAINT tokens_symbol_length CHECK (char_length(symbol) BETWEEN 1 AND 64),
    CONSTRAINT tokens_name_length CHECK (char_length(name) BETWEEN 1 AND 128),
    CONSTRAINT tokens_decimals_range CHECK (decimals BETWEEN 0 AND 255),
    CONSTRAINT tokens_metadata_shape CHECK (
        jsonb_typeof(metadata) = 'object'
        AND jsonb_typeof(coalesce(metadata -> 'logo_uri', '""')) = 'string'
        AND jsonb_typeof(coalesce(metadata -> 'tags', '[]')) = 'array'
        AND jsonb_typeof(coalesce(metadata -> 'extensions', '{}')) = 'object')
);

CREATE TRIGGER tokens_version BEFORE INSERT OR UPDATE ON tokens
    FOR EACH ROW EXECUTE FUNCTION assign_row_version();
CREATE TRIGGER tokens_key_immutable BEFORE UPDATE ON tokens
    FOR EACH ROW WHEN (OLD.id IS DISTINCT FROM NEW.id OR OLD.mint IS DISTINCT FROM NEW.mint)
    EXECUTE FUNCTION refuse_key_change();
CREATE TRIGGER tokens_outbox_insert AFTER INSERT ON tokens REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION outbox_after_insert('token', 'mint');
CREATE TRIGGER tokens_outbox_update AFTER UPDATE ON tokens REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION outbox_after_update('token', 'mint');
CREATE TRIGGER tokens_outbox_delete AFTER DELETE ON tokens REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION outbox_after_delete('token', 'mint');
CREATE TRIGGER tokens_outbox_truncate AFTER TRUNCATE ON tokens
    FOR EACH STATEMENT EXECUTE FUNCTION outbox_after_truncate('token');

-- Liquidity pools ----------------------------------------------------------

CREATE TABLE pools (
    id uuid NOT NULL,
    pool_address text COLLATE "C" NOT NULL,
    dex text COLLATE "C" NOT NULL,
    base_token_id uuid NOT NULL,
    quote_token_id uuid NOT NULL,
    base_vault text COLLATE "C" NOT NULL,
    quote_vault text COLLATE "C" NOT NULL,
    lp_mint text COLLATE "C" NOT NULL,
    lp_decimals smallint NOT NULL,
    curve text NOT NULL,
    trade_fee_bps integer NOT NULL,
    owner_fee_bps integer NOT NULL,
    name text NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    version bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pools_pkey PRIMARY KEY (id),
    CONSTRAINT pools_pool_address_key UNIQUE (pool_address),
    CONSTRAINT pools_base_token_fkey FOREIGN KEY (base_token_id) REFERENCES tokens (id) ON DELETE RESTRICT,
    CONSTRAINT pools_quote_token_fkey FOREIGN KEY (quote_token_id) REFERENCES tokens (id) ON DELETE RESTRICT,
    CONSTRAINT pools_tokens_differ CHECK (base_token_id <> quote_token_id),
    CONSTRAINT pools_pool_address_is_base58 CHECK (pool_address ~ '^[1-9A-HJ-NP-Za-km-z]{32,44}$'),
    CONSTRAINT pools_base_vault_is_base58 CHECK (base_vault ~ '^[1-9A-HJ-NP-Za-km-z]{32,44}$'),
    CONSTRAINT pools_quote_vault_is_base58 CHECK (quote_vault ~ '^[1-9A-HJ-NP-Za-km-z]{32,44}$'),
    CONSTRAINT pools_lp_mint_is_base58 CHECK (lp_mint ~ '^[1-9A-HJ-NP-Za-km-z]{32,44}$'),
    CONSTRAINT pools_dex_format CHECK (dex ~ '^[a-z0-9_-]{1,32}$'),
    CONSTRAINT pools_lp_decimals_range CHECK (lp_decimals BETWEEN 0 AND 255),
    CONSTRAINT pools_curve_known CHECK (curve IN ('constant_product', 'stable')),
    CONSTRAINT pools_trade_fee_range CHECK (trade_fee_bps BETWEEN 0 AND 10000),
    CONSTRAINT pools_owner_fee_range CHECK (owner_fee_bps BETWEEN 0 AND 10000),
    CONSTRAINT pools_name_length CHECK (char_length(name) BETWEEN 1 AND 128),
    CONSTRAINT pools_metadata_shape CHECK (jsonb_typeof(metadata) = 'object')
);

CREATE TRIGGER pools_version BEFORE INSERT OR UPDATE ON pools
    FOR EACH ROW EXECUTE FUNCTION assign_row_version();
CREATE TRIGGER pools_key_immutable BEFORE UPDATE ON pools
    FOR EACH ROW WHEN (OLD.id IS DISTINCT FROM NEW.id OR OLD.pool_address IS DISTINCT FROM NEW.pool_address)
    EXECUTE FUNCTION refuse_key_change();
CREATE TRIGGER pools_outbox_insert AFTER INSERT ON pools REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION outbox_after_insert('pool', 'pool_address');
CREATE TRIGGER pools_outbox_update AFTER UPDATE ON pools REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION outbox_after_update('pool', 'pool_address');
CREATE TRIGGER pools_outbox_delete AFTER DELETE ON pools REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION outbox_after_delete('pool', 'pool_address');
CREATE TRIGGER pools_outbox_truncate AFTER TRUNCATE ON pools
    FOR EACH STATEMENT EXECUTE FUNCTION outbox_after_truncate('pool');

-- What was observed of a pool ----------------------------------------------

-- Partitioned by day, so that old days are dropped instead of deleted row by row.
CREATE TABLE pool_snapshots (
    pool_id uuid NOT NULL,
    -- When the reserves were read; `slot` is the Solana slot they belong to.
    observed_at timestamptz NOT NULL,
    slot bigint NOT NULL,
    -- Raw amounts in base units: unsigned 64-bit integers do not fit a bigint.
    base_reserve numeric(20, 0) NOT NULL,
    quote_reserve numeric(20, 0) NOT NULL,
    CONSTRAINT pool_snapshots_pkey PRIMARY KEY (pool_id, observed_at),
    CONSTRAINT pool_snapshots_pool_fkey FOREIGN KEY (pool_id) REFERENCES pools (id) ON DELETE CASCADE,
    CONSTRAINT pool_snapshots_slot_range CHECK (slot >= 0),
    CONSTRAINT pool_snapshots_base_reserve_range CHECK (base_reserve BETWEEN 0 AND 18446744073709551615),
    CONSTRAINT pool_snapshots_quote_reserve_range CHECK (quote_reserve BETWEEN 0 AND 18446744073709551615)
) PARTITION BY RANGE (observed_at);

-- A day without a partition of its own still takes rows.
CREATE TABLE pool_snapshots_default PARTITION OF pool_snapshots DEFAULT;

-- Creates the partition of one day (UTC) unless it is there; rows of that day
-- that went to the default partition move over. Returns whether it was created.
CREATE FUNCTION create_pool_snapshot_partition(day date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    partition_name text := format('pool_snapshots_%s', to_char(day, 'YYYYMMDD'));
    starts_at timestamptz := day::timestamp AT TIME ZONE 'UTC';
    ends_at timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
BEGIN
    -- Two maintainers at once would both find the partition missing.
    PERFORM pg_advisory_xact_lock(hashtextextended('pool_snapshot_partitions', 0));
    IF to_regclass(partition_name) IS NOT NULL THEN
        RETURN false;
    END IF;
    -- A row of that day that came to the default partition between the move and
    -- the attachment would make the attachment fail.
    LOCK TABLE pool_snapshots_default IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('CREATE TABLE %I (LIKE pool_snapshots INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition_name);
    EXECUTE format(
        'WITH moved AS (DELETE FROM pool_snapshots_default WHERE observed_at >= %L AND observed_at < %L RETURNING *)
         INSERT INTO %I SELECT * FROM moved', starts_at, ends_at, partition_name);
    EXECUTE format('ALTER TABLE pool_snapshots ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        partition_name, starts_at, ends_at);
    RETURN true;
END
$$;

-- Keeps `days_ahead` days of partitions ready and drops the days that are older
-- than `days_kept`. Returns how many partitions were created and dropped.
CREATE FUNCTION maintain_pool_snapshot_partitions(
    days_ahead integer, days_kept integer, OUT created integer, OUT dropped integer
) LANGUAGE plpgsql AS $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
    partition_name text;
BEGIN
    created := 0;
    dropped := 0;
    FOR ahead IN 0..days_ahead LOOP
        IF create_pool_snapshot_partition(today + ahead) THEN
            created := created + 1;
        END IF;
    END LOOP;
    FOR partition_name IN
        SELECT relation.relname
        FROM pg_inherits JOIN pg_class relation ON relation.oid = pg_inherits.inhrelid
        WHERE pg_inherits.inhparent = 'pool_snapshots'::regclass
            AND relation.relname ~ '^pool_snapshots_[0-9]{8}$'
            AND to_date(right(relation.relname, 8), 'YYYYMMDD') < today - days_kept
    LOOP
        EXECUTE format('DROP TABLE %I', partition_name);
        dropped := dropped + 1;
    END LOOP;
END
$$;

-- Collection campaigns -----------------------------------------------------

CREATE TABLE campaigns (
    id uuid NOT NULL,
    name text NOT NULL,
    -- Who created it, as the caller was authenticated.
    principal text NOT NULL,
    state text NOT NULL DEFAULT 'active',
    -- Seconds between two runs; null runs on demand only.
    interval_seconds integer,
    next_run_at timestamptz,
    -- Which pools to collect and how.
    settings jsonb NOT NULL DEFAULT '{}',
    version bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT campaigns_pkey PRIMARY KEY (id),
    CONSTRAINT campaigns_name_length CHECK (char_length(name) BETWEEN 1 AND 128),
    CONSTRAINT campaigns_state_known CHECK (state IN ('active', 'paused', 'archived')),
    CONSTRAINT campaigns_interval_range CHECK (interval_seconds BETWEEN 1 AND 31536000),
    CONSTRAINT campaigns_settings_shape CHECK (jsonb_typeof(settings) = 'object')
);

CREATE TRIGGER campaigns_version BEFORE INSERT OR UPDATE ON campaigns
    FOR EACH ROW EXECUTE FUNCTION assign_row_version();

CREATE TABLE campaign_runs (
    id uuid NOT NULL,
    campaign_id uuid NOT NULL,
    state text NOT NULL DEFAULT 'running',
    -- The time a schedule fired for, so that one firing starts one run.
    scheduled_for timestamptz,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    summary jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT campaign_runs_pkey PRIMARY KEY (id),
    CONSTRAINT campaign_runs_campaign_fkey FOREIGN KEY (campaign_id) REFERENCES campaigns (id) ON DELETE CASCADE,
    CONSTRAINT campaign_runs_firing_key UNIQUE (campaign_id, scheduled_for),
    CONSTRAINT campaign_runs_state_known CHECK (state IN ('running', 'succeeded', 'failed', 'cancelled')),
    CONSTRAINT campaign_runs_finished_when_ended CHECK ((state = 'running') = (finished_at IS NULL)),
    CONSTRAINT campaign_runs_summary_shape CHECK (jsonb_typeof(summary) = 'object')
);

-- Jobs ---------------------------------------------------------------------

-- The truth about every job: a row is written in the caller's transaction, so a
-- job exists if and only if that transaction committed.
CREATE TABLE jobs (
    id uuid NOT NULL,
    queue text NOT NULL,
    kind text NOT NULL,
    state text NOT NULL DEFAULT 'waiting',
    priority smallint NOT NULL DEFAULT 0,
    arguments jsonb NOT NULL DEFAULT '{}',
    campaign_run_id uuid,
    -- While a job with this key is alive a second one is refused.
    unique_key text,
    attempts integer NOT NULL DEFAULT 0,
    attempts_max integer NOT NULL DEFAULT 3,
    run_at timestamptz NOT NULL DEFAULT now(),
    -- When the job was last handed to the queue engine.
    handed_at timestamptz,
    last_error text,
    -- W3C trace context of the request that asked for the job.
    traceparent text,
    tracestate text,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CONSTRAINT jobs_pkey PRIMARY KEY (id),
    CONSTRAINT jobs_campaign_run_fkey FOREIGN KEY (campaign_run_id) REFERENCES campaign_runs (id) ON DELETE CASCADE,
    CONSTRAINT jobs_state_known CHECK (state IN ('waiting', 'handed', 'running', 'succeeded', 'failed', 'cancelled')),
    CONSTRAINT jobs_attempts_range CHECK (attempts >= 0 AND attempts_max >= 1),
    CONSTRAINT jobs_arguments_shape CHECK (jsonb_typeof(arguments) = 'object'),
    CONSTRAINT jobs_finished_when_ended
        CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL))
) WITH (fillfactor = 70);

-- Requests and callers -----------------------------------------------------

-- The first reply of every request that carried a request id; null while that
-- request is still running.
CREATE TABLE idempotency_keys (
    method text NOT NULL,
    request_id uuid NOT NULL,
    fingerprint bytea NOT NULL,
    reply bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (method, request_id)
);

CREATE TABLE api_keys (
    id uuid NOT NULL,
    name text NOT NULL,
    -- HMAC of the key: the key itself is shown once and never stored.
    key_hash bytea NOT NULL,
    scopes text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    CONSTRAINT api_keys_pkey PRIMARY KEY (id),
    CONSTRAINT api_keys_key_hash_key UNIQUE (key_hash),
    CONSTRAINT api_keys_name_length CHECK (char_length(name) BETWEEN 1 AND 128)
);
