-- The doctor changes nothing, waits for no lock for long, goes by PostgreSQL's own names, and reads
-- definitions as every role gets them. Set for its transaction only, so that a transaction pooler may stand
-- between.
SELECT pg_catalog.set_config('transaction_read_only', 'on', true),
       pg_catalog.set_config('statement_timeout', %(statement_timeout)s::text, true),
       pg_catalog.set_config('lock_timeout', %(lock_timeout)s::text, true),
       pg_catalog.set_config('quote_all_identifiers', 'off', true),
       pg_catalog.set_config('search_path', 'pg_catalog, "' || %(schema)s::text || '", pg_temp', true)
