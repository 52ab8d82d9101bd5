-- The role, whether its transactions may write, and each of these privileges that it lacks. From the
-- catalogs: 1 ms for all actions of the page, which asks every half minute.
SELECT current_user::text, pg_catalog.current_setting('transaction_read_only') = 'off',
  (SELECT coalesce(pg_catalog.array_agg(needed.privilege || ' ' || needed.relation), '{}')
   FROM ROWS FROM (
     pg_catalog.unnest(%(relations)s::text[]), pg_catalog.unnest(%(privileges)s::text[])
   ) AS needed (relation, privilege)
   JOIN pg_catalog.pg_namespace AS n ON n.nspname = %(schema)s::text
   JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = needed.relation
   WHERE NOT CASE c.relkind
     WHEN 'S' THEN pg_catalog.has_sequence_privilege(c.oid, needed.privilege)
     ELSE pg_catalog.has_table_privilege(c.oid, needed.privilege)
   END)
