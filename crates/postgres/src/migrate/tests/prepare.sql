-- Makes the tables of V1 quick to fill: without write-ahead log, triggers, checks,
-- foreign keys and all but the primary keys. Only what the planner looks at matters
-- here; the two unique keys that it needs come back after the rows.
DO $$
DECLARE
    change text;
BEGIN
    FOR change IN
        SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname)
        FROM pg_constraint
        WHERE contype IN ('c', 'f', 'u') AND connamespace = 'public'::regnamespace
            AND coninhcount = 0 AND conparentid = 0
        UNION ALL
        SELECT format('ALTER TABLE %s SET UNLOGGED', oid::regclass)
        FROM pg_class
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
        UNION ALL
        SELECT format('ALTER TABLE %s DISABLE TRIGGER USER', oid::regclass)
        FROM pg_class
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
    LOOP
        EXECUTE change;
    END LOOP;
END
$$;
