-- Of these privileges those that the role lacks; a function stands with EXECUTE, the schema with USAGE.
SELECT c.relname::text, needed.privilege
FROM ROWS FROM (
  pg_catalog.unnest(%(relations)s::text[]), pg_catalog.unnest(%(privileges)s::text[])
) AS needed (relation, privilege)
JOIN pg_catalog.pg_namespace AS n ON n.nspname = %(schema)s
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = needed.relation
WHERE NOT CASE c.relkind
  WHEN 'S' THEN pg_catalog.has_sequence_privilege(c.oid, needed.privilege)
  ELSE pg_catalog.has_table_privilege(c.oid, needed.privilege)
END
UNION ALL
SELECT p.proname::text, 'EXECUTE'
FROM pg_catalog.pg_proc AS p
JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace AND n.nspname = %(schema)s
WHERE NOT pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
UNION ALL
SELECT n.nspname::text, 'USAGE'
FROM pg_catalog.pg_namespace AS n
WHERE n.nspname = %(schema)s
  AND NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE')
ORDER BY 1, 2
