-- Every object of a schema, each with a text that is the same for the same object on PostgreSQL 14 to 18,
-- whatever the schema is called: what lies on the search_path is named without its schema, and this
-- statement runs with pg_catalog and the schema on it. Reads catalogs alone; 10 ms. Definitions of views
-- and defaults take a lock on their tables, as any reader does.
WITH space AS (
  SELECT n.oid FROM pg_catalog.pg_namespace AS n WHERE n.nspname = %(schema)s
), relations AS (
  SELECT c.oid, c.relname::text AS name, c.relkind, c.relpersistence, c.reloptions, c.relrowsecurity,
         c.relispartition, c.relpartbound
  FROM pg_catalog.pg_class AS c
  JOIN space ON space.oid = c.relnamespace
)
SELECT 'table', r.name,
       CASE r.relpersistence WHEN 'u' THEN 'UNLOGGED' WHEN 'p' THEN 'LOGGED' ELSE 'TEMPORARY' END
         || CASE WHEN r.relkind = 'p' THEN ' PARTITIONED' ELSE '' END
         || CASE WHEN r.relispartition
                 THEN ' ' || pg_catalog.pg_get_expr(r.relpartbound, r.oid) ELSE '' END
         || CASE WHEN r.relrowsecurity THEN ' ROW LEVEL SECURITY' ELSE '' END
FROM relations AS r
WHERE r.relkind IN ('r', 'p')
UNION ALL
SELECT 'column', r.name || '.' || a.attname::text,
       pg_catalog.format_type(a.atttypid, a.atttypmod)
         || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
         || CASE WHEN a.attidentity <> '' THEN ' IDENTITY' ELSE '' END
         || coalesce(' DEFAULT ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid), '')
FROM relations AS r
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = r.oid AND d.adnum = a.attnum
WHERE r.relkind IN ('r', 'p')
UNION ALL
SELECT 'constraint', r.name || '.' || o.conname::text, pg_catalog.pg_get_constraintdef(o.oid, true)
FROM relations AS r
JOIN pg_catalog.pg_constraint AS o ON o.conrelid = r.oid
WHERE o.contype IN ('c', 'p', 'u', 'f', 'x')
UNION ALL
SELECT 'index', i.relname::text, pg_catalog.pg_get_indexdef(i.oid, 0, true)
FROM relations AS r
JOIN pg_catalog.pg_index AS x ON x.indrelid = r.oid
JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
UNION ALL
SELECT 'options', r.name, pg_catalog.array_to_string(ARRAY(
         SELECT o FROM pg_catalog.unnest(r.reloptions) AS o ORDER BY o), ', ')
FROM relations AS r
WHERE r.relkind IN ('r', 'p')
UNION ALL
SELECT 'trigger', r.name || '.' || t.tgname::text,
       pg_catalog.pg_get_triggerdef(t.oid, true)
         || CASE t.tgenabled WHEN 'O' THEN '' WHEN 'D' THEN ' DISABLED' ELSE ' ENABLED OTHERWISE' END
FROM relations AS r
JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = r.oid
WHERE NOT t.tgisinternal
UNION ALL
SELECT 'sequence', r.name,
       pg_catalog.format_type(s.seqtypid, NULL) || ' INCREMENT ' || s.seqincrement::text
         || CASE WHEN s.seqcycle THEN ' CYCLE' ELSE '' END
FROM relations AS r
JOIN pg_catalog.pg_sequence AS s ON s.seqrelid = r.oid
UNION ALL
SELECT 'view', r.name, pg_catalog.regexp_replace(pg_catalog.pg_get_viewdef(r.oid, true), '[[:space:]]+', ' ', 'g')
FROM relations AS r
WHERE r.relkind = 'v'
UNION ALL
SELECT 'function',
       p.proname::text || '(' || pg_catalog.pg_get_function_identity_arguments(p.oid) || ')',
       pg_catalog.pg_get_function_result(p.oid) || ' ' || l.lanname::text || ' ' || p.provolatile::text
         || ' ' || p.proparallel::text || CASE WHEN p.proisstrict THEN ' STRICT' ELSE '' END
         || CASE WHEN p.prosecdef THEN ' SECURITY DEFINER' ELSE '' END
         || coalesce(' SET ' || pg_catalog.array_to_string(p.proconfig, ', '), '')
         || ' ' || pg_catalog.regexp_replace(
              coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc), '[[:space:]]+', ' ', 'g')
FROM pg_catalog.pg_proc AS p
JOIN space ON space.oid = p.pronamespace
JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
ORDER BY 1, 2
