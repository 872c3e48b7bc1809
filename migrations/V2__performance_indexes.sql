-- The performance indexes. Each names the query it serves in a block
--     -- serves: NAME
--     -- query: SQL
-- and a test plans every such query over a million rows and fails unless the
-- plan uses the index that follows. Change a query here when you change it in
-- a service. The parameters stand for what a service binds.
--
-- A query marked "plan: each time" must be planned for the values at hand whenever
-- it runs: no single plan suits both a tag that is on every third row and one on
-- three rows. All others keep their index in the plan that a prepared statement
-- reuses for any values.
--
-- Lists are pages in the order of a unique key: the index leads with the filter
-- and ends with that key, so that a page costs its own rows and no sort.

-- Tokens -------------------------------------------------------------------

-- serves: list tokens, no filter
-- query: SELECT * FROM tokens WHERE mint > $mint ORDER BY mint LIMIT 51
-- index: tokens_mint_key (from V1, as is the lookup by mint)

-- serves: list tokens of one symbol
-- query: SELECT * FROM tokens WHERE symbol = $symbol AND mint > $mint ORDER BY mint LIMIT 51
CREATE INDEX tokens_symbol_mint ON tokens (symbol, mint);

-- A page of the few rows with a tag is sorted after the fact; a tag that is on
-- many rows is cheaper to find in the order of mint, and Postgres knows it.
-- serves: list tokens that have a tag
-- plan: each time
-- query: SELECT * FROM tokens WHERE metadata -> 'tags' @> jsonb_build_array($tag::text) AND mint > $mint ORDER BY mint LIMIT 51
CREATE INDEX tokens_tags ON tokens USING gin ((metadata -> 'tags') jsonb_path_ops);

-- The range operators compare bytes, whatever the collation of the database,
-- and unlike LIKE they take the text as it is, without wildcards to escape. The
-- last code point of Unicode ends the range: no character sorts behind it.
-- serves: list tokens whose name begins with a text, in any case
-- plan: each time
-- query: SELECT * FROM tokens WHERE lower(name) ~>=~ lower($name_prefix) AND lower(name) ~<~ (lower($name_prefix) || chr(1114111)) AND mint > $mint ORDER BY mint LIMIT 51
CREATE INDEX tokens_name_prefix ON tokens (lower(name) text_pattern_ops, mint);

-- Any other fact of a token, for operators and joins with other data sets.
-- serves: find tokens by an extension
-- query: SELECT id FROM tokens WHERE metadata ? 'extensions' AND metadata -> 'extensions' @> jsonb_build_object('coingeckoId', $coingecko_id::text)
CREATE INDEX tokens_extensions ON tokens USING gin ((metadata -> 'extensions') jsonb_path_ops)
    WHERE metadata ? 'extensions';

-- Liquidity pools ----------------------------------------------------------

-- serves: list pools, no filter
-- query: SELECT * FROM pools WHERE pool_address > $pool_address ORDER BY pool_address LIMIT 51
-- index: pools_pool_address_key (from V1, as is the lookup by address)

-- The list by token asks both sides and merges them: a pool has two different
-- tokens, so no pool comes twice, and each side is read in order.
--     SELECT * FROM (
--         (SELECT * FROM pools WHERE base_token_id = $1 AND pool_address > $2 ORDER BY pool_address LIMIT $3)
--         UNION ALL
--         (SELECT * FROM pools WHERE quote_token_id = $1 AND pool_address > $2 ORDER BY pool_address LIMIT $3)
--     ) either_side ORDER BY pool_address LIMIT $3
-- Both also serve the check that no pool uses a token that is deleted.

-- serves: list pools whose base is a token
-- query: SELECT * FROM pools WHERE base_token_id = $token_id AND pool_address > $pool_address ORDER BY pool_address LIMIT 51
CREATE INDEX pools_base_token ON pools (base_token_id, pool_address);

-- serves: list pools whose quote is a token
-- query: SELECT * FROM pools WHERE quote_token_id = $token_id AND pool_address > $pool_address ORDER BY pool_address LIMIT 51
CREATE INDEX pools_quote_token ON pools (quote_token_id, pool_address);

-- The smaller id first: one index finds a pair in either order.
-- serves: list pools of a pair, in either order
-- query: SELECT * FROM pools WHERE least(base_token_id, quote_token_id) = least($token_id::uuid, $other_token_id::uuid) AND greatest(base_token_id, quote_token_id) = greatest($token_id::uuid, $other_token_id::uuid) AND pool_address > $pool_address ORDER BY pool_address LIMIT 51
CREATE INDEX pools_pair ON pools (
    least(base_token_id, quote_token_id), greatest(base_token_id, quote_token_id), pool_address);

-- serves: list pools of an exchange
-- query: SELECT * FROM pools WHERE dex = $dex AND pool_address > $pool_address ORDER BY pool_address LIMIT 51
CREATE INDEX pools_dex ON pools (dex, pool_address);

-- Pools keep facts that only some exchanges have in their metadata.
-- serves: find pools by a fact in their metadata
-- query: SELECT id FROM pools WHERE metadata @> jsonb_build_object('program', $program::text)
CREATE INDEX pools_metadata ON pools USING gin (metadata jsonb_path_ops);

-- Snapshots ----------------------------------------------------------------

-- serves: newest snapshot of a pool
-- query: SELECT * FROM pool_snapshots WHERE pool_id = $pool_id ORDER BY observed_at DESC LIMIT 1
-- index: pool_snapshots_pkey (from V1; its partitions carry names of their own)

-- Rows arrive in the order of time, so a block range index finds a stretch of
-- time at a thousandth of the size of a tree.
-- serves: snapshots of a stretch of time, over all pools
-- query: SELECT count(*) FROM pool_snapshots WHERE observed_at >= now() - interval '2 hours' AND observed_at < now() - interval '1 hour'
CREATE INDEX pool_snapshots_observed_at ON pool_snapshots USING brin (observed_at) WITH (pages_per_range = 16);

-- Campaigns ----------------------------------------------------------------

-- serves: campaigns that are due
-- query: SELECT * FROM campaigns WHERE state = 'active' AND next_run_at <= now() ORDER BY next_run_at LIMIT 100
CREATE INDEX campaigns_due ON campaigns (next_run_at) WHERE state = 'active' AND next_run_at IS NOT NULL;

-- serves: campaigns of a principal, newest first
-- query: SELECT * FROM campaigns WHERE principal = $principal ORDER BY created_at DESC, id DESC LIMIT 51
CREATE INDEX campaigns_principal ON campaigns (principal, created_at DESC, id DESC);

-- serves: find campaigns by their settings
-- query: SELECT id FROM campaigns WHERE settings @> jsonb_build_object('dex', $campaign_dex::text)
CREATE INDEX campaigns_settings ON campaigns USING gin (settings jsonb_path_ops);

-- serves: runs of a campaign, newest first
-- query: SELECT * FROM campaign_runs WHERE campaign_id = $campaign_id ORDER BY started_at DESC LIMIT 51
CREATE INDEX campaign_runs_newest ON campaign_runs (campaign_id, started_at DESC);

-- serves: runs that have not ended
-- query: SELECT * FROM campaign_runs WHERE state = 'running' ORDER BY started_at LIMIT 100
CREATE INDEX campaign_runs_unfinished ON campaign_runs (started_at) WHERE state = 'running';

-- Jobs ---------------------------------------------------------------------

-- serves: jobs to hand to the queue engine
-- query: SELECT id FROM jobs WHERE queue = $queue AND state = 'waiting' AND run_at <= now() ORDER BY priority DESC, run_at, id LIMIT 500 FOR UPDATE SKIP LOCKED
CREATE INDEX jobs_waiting ON jobs (queue, priority DESC, run_at, id) WHERE state = 'waiting';

-- serves: jobs that the queue engine may have lost
-- query: SELECT id FROM jobs WHERE state IN ('handed', 'running') AND handed_at < now() - interval '1 minute' ORDER BY handed_at LIMIT 500
CREATE INDEX jobs_handed ON jobs (handed_at) WHERE state IN ('handed', 'running');

-- serves: one living job of a kind for a key
-- query: SELECT id FROM jobs WHERE kind = $kind AND unique_key = $unique_key AND state IN ('waiting', 'handed', 'running')
CREATE UNIQUE INDEX jobs_unique_key ON jobs (kind, unique_key)
    WHERE unique_key IS NOT NULL AND state IN ('waiting', 'handed', 'running');

-- serves: progress of a campaign run
-- query: SELECT state, count(*) FROM jobs WHERE campaign_run_id = $campaign_run_id GROUP BY state
CREATE INDEX jobs_campaign_run ON jobs (campaign_run_id, state) WHERE campaign_run_id IS NOT NULL;

-- serves: jobs whose history has expired
-- query: SELECT id FROM jobs WHERE finished_at < now() - interval '30 days' ORDER BY finished_at LIMIT 1000
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;

-- serves: find jobs by an argument
-- query: SELECT id FROM jobs WHERE arguments @> jsonb_build_object('pool', $pool_argument::text)
CREATE INDEX jobs_arguments ON jobs USING gin (arguments jsonb_path_ops);

-- The outbox ---------------------------------------------------------------

-- serves: changes after a position, of finished transactions
-- query: SELECT * FROM cache_outbox WHERE (xid, position) > ($xid::xid8, $position) AND xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY xid, position LIMIT 1000
-- index: cache_outbox_pkey (from V1)

-- serves: the tombstone of a key
-- query: SELECT max(version) FROM cache_outbox WHERE entity = 'token' AND entity_key = $mint AND operation = 'delete'
-- index: cache_outbox_tombstones (from V1)

-- serves: changes that nobody replays any more
-- query: SELECT xid, position FROM cache_outbox WHERE created_at < now() - interval '30 days' LIMIT 1000
CREATE INDEX cache_outbox_created_at ON cache_outbox USING brin (created_at) WITH (pages_per_range = 16);

-- Requests and callers -----------------------------------------------------

-- serves: request ids that have expired
-- query: SELECT method, request_id FROM idempotency_keys WHERE created_at < now() - interval '30 days' ORDER BY created_at LIMIT 1000
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);

-- serves: API keys in use
-- query: SELECT id, name FROM api_keys WHERE revoked_at IS NULL ORDER BY name LIMIT 51
CREATE INDEX api_keys_living ON api_keys (name) WHERE revoked_at IS NULL;

-- Statistics of the last 24 hours ------------------------------------------

-- What a pool did in the last 24 hours, as of the last refresh. Prices are
-- quote units for one base unit, both raw: scaling by decimals is for readers.
CREATE MATERIALIZED VIEW pool_stats_24h AS
SELECT
    pool_id,
    count(*) AS snapshots,
    min(observed_at) AS first_observed_at,
    max(observed_at) AS last_observed_at,
    max(slot) AS last_slot,
    (array_agg(base_reserve ORDER BY observed_at))[1] AS base_reserve_first,
    (array_agg(base_reserve ORDER BY observed_at DESC))[1] AS base_reserve_last,
    (array_agg(quote_reserve ORDER BY observed_at))[1] AS quote_reserve_first,
    (array_agg(quote_reserve ORDER BY observed_at DESC))[1] AS quote_reserve_last,
    min(quote_reserve / nullif(base_reserve, 0)) AS raw_price_min,
    max(quote_reserve / nullif(base_reserve, 0)) AS raw_price_max
FROM pool_snapshots
WHERE observed_at >= now() - interval '24 hours'
GROUP BY pool_id;

-- Unique, because only then can the view be refreshed without locking readers out.
-- serves: statistics of pools
-- query: SELECT * FROM pool_stats_24h WHERE pool_id = $pool_id
CREATE UNIQUE INDEX pool_stats_24h_pool ON pool_stats_24h (pool_id);

-- Refreshes the view while readers go on reading. Returns false when another
-- session is at it: two refreshes in a row would do the work twice.
CREATE FUNCTION refresh_pool_stats_24h() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('pool_stats_24h', 0)) THEN
        RETURN false;
    END IF;
    REFRESH MATERIALIZED VIEW CONCURRENTLY pool_stats_24h;
    RETURN true;
END
$$;
