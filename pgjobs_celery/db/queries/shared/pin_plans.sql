-- A worker that starts on an empty table caches a plan that costs 90 ms a claim once rows arrive.
-- Set for the transaction only, so that a transaction pooler may stand between.
-- A generic plan must be asked for: by the planner's estimate a custom one never costs more, and to
-- make it would take 0.3 ms of each claim.
-- Up to PostgreSQL 17 a step that is switched off adds 1e10 to the cost, where a small table is read or a
-- few rows are sorted all the same; a server with JIT then compiles the statement at each call (a rescue
-- took 80 ms and more on Debian's 17), and starts two processes for a look at two empty tables (5 ms).
-- Returns nothing: to read a row of settings took a worker that had just woken 30 µs, as long as to set them.
SELECT
WHERE pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true) IS NULL
   OR pg_catalog.set_config('enable_seqscan', 'off', true) IS NULL
   OR pg_catalog.set_config('enable_bitmapscan', 'off', true) IS NULL
   OR pg_catalog.set_config('enable_sort', 'off', true) IS NULL
   OR pg_catalog.set_config('jit', 'off', true) IS NULL
   OR pg_catalog.set_config('max_parallel_workers_per_gather', '0', true) IS NULL
