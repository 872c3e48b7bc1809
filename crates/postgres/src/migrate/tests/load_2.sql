-- A million rows of the tables that grow; the other half is in load_1.sql.
INSERT INTO pools (id, pool_address, dex, base_token_id, quote_token_id, base_vault, quote_vault,
    lp_mint, lp_decimals, curve, trade_fee_bps, owner_fee_bps, name, metadata, version)
SELECT lpad(to_hex(i), 32, '0')::uuid, translate(md5(i::text), '0', 'z'), 'dex-' || i % 5000,
    lpad(to_hex(i % 50000), 32, '0')::uuid, lpad(to_hex(50001 + i % 7000), 32, '0')::uuid,
    'v', 'v', 'v', 6, 'stable', 25, 5, 'pool ' || i,
    CASE WHEN i % 1000 = 0 THEN jsonb_build_object('program', 'program-' || i) ELSE '{}' END, i
FROM generate_series(1, 1000000) AS i;

INSERT INTO pool_snapshots
SELECT lpad(to_hex(i % 5000), 32, '0')::uuid, now() - (1000000 - i) * interval '100 milliseconds', i, i, i
FROM generate_series(1, 1000000) AS i;

INSERT INTO campaigns (id, name, principal, state, next_run_at, settings, version, created_at)
SELECT lpad(to_hex(i), 32, '0')::uuid, 'campaign', 'principal ' || i % 5000, 'active',
    now() + (i - 500) * interval '1 second', jsonb_build_object('dex', 'dex-' || i % 5000), i,
    now() - i * interval '1 second'
FROM generate_series(1, 100000) AS i;

INSERT INTO campaign_runs (id, campaign_id, state, started_at, finished_at)
SELECT lpad(to_hex(i), 32, '0')::uuid, lpad(to_hex(i % 5000), 32, '0')::uuid,
    CASE WHEN i % 1000 = 0 THEN 'running' ELSE 'succeeded' END, now() - i * interval '1 second',
    CASE WHEN i % 1000 = 0 THEN NULL ELSE now() END
FROM generate_series(1, 100000) AS i;

INSERT INTO jobs (id, queue, kind, state, priority, arguments, campaign_run_id, unique_key, run_at,
    handed_at, finished_at)
SELECT lpad(to_hex(i), 32, '0')::uuid, 'queue-' || i % 10, 'gather-pool',
    CASE i % 100 WHEN 0 THEN 'waiting' WHEN 1 THEN 'running' ELSE 'succeeded' END, i % 3,
    jsonb_build_object('pool', 'pool-' || i), lpad(to_hex(i % 5000), 32, '0')::uuid, 'key-' || i,
    now() - i * interval '1 second', CASE WHEN i % 100 > 0 THEN now() - i * interval '1 second' END,
    CASE WHEN i % 100 > 1 THEN now() - i * interval '10 seconds' END
FROM generate_series(1, 1000000) AS i;

INSERT INTO idempotency_keys (method, request_id, fingerprint, created_at)
SELECT 'method', lpad(to_hex(i), 32, '0')::uuid, '', now() - i * interval '10 minutes'
FROM generate_series(1, 100000) AS i;

INSERT INTO api_keys (id, name, key_hash, revoked_at)
SELECT lpad(to_hex(i), 32, '0')::uuid, 'key ' || i, i::text::bytea,
    CASE WHEN i % 100 = 0 THEN NULL ELSE now() END
FROM generate_series(1, 100000) AS i;

ALTER TABLE pools ADD CONSTRAINT pools_pool_address_key UNIQUE (pool_address);
