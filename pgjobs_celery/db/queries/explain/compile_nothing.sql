-- Beside pin_plans, for statements that also read small tables without an index, or sort a few rows: up
-- to PostgreSQL 17 each such step that is switched off adds 1e10 to the cost, and the server compiles
-- the statement for seconds (jit_above_cost). Set for the transaction only.
SELECT pg_catalog.set_config('jit', 'off', true)
