-- A million rows of the tables that grow; the other half is in load_2.sql.
INSERT INTO tokens (id, mint, symbol, name, decimals, metadata, version)
SELECT lpad(to_hex(i), 32, '0')::uuid, translate(md5(i::text), '0', 'z'), 'S' || i % 50000,
    chr(65 + i % 26) || chr(97 + i / 26 % 26) || chr(97 + i / 676 % 26) || ' Token ' || i, 6,
    CASE WHEN i % 1000 = 0 THEN jsonb_build_object('tags', jsonb_build_array('rare', 'common'),
            'extensions', jsonb_build_object('coingeckoId', 'coin-' || i))
        ELSE '{"tags": ["common"]}' END, i
FROM generate_series(1, 1000000) AS i;

INSERT INTO cache_outbox (xid, entity, entity_id, entity_key, version, operation, created_at)
SELECT (i / 10 + 1)::text::xid8, 'token', lpad(to_hex(i), 32, '0')::uuid, translate(md5(i::text), '0', 'z'),
    i, CASE WHEN i % 100 = 0 THEN 'delete' ELSE 'upsert' END,
    now() - (1000000 - i) * interval '2600 milliseconds'
FROM generate_series(1, 1000000) AS i;

ALTER TABLE tokens ADD CONSTRAINT tokens_mint_key UNIQUE (mint);
