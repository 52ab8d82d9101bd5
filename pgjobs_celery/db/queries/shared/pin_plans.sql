-- A worker that starts on an empty table caches a plan that costs 90 ms a claim once rows arrive.
-- Set for the transaction only, so that a transaction pooler may stand between.
-- A generic plan must be asked for: by the planner's estimate a custom one never costs more, and to
-- make it would take 0.3 ms of each claim.
SELECT pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true),
       pg_catalog.set_config('enable_seqscan', 'off', true),
       pg_catalog.set_config('enable_bitmapscan', 'off', true),
       pg_catalog.set_config('enable_sort', 'off', true)
