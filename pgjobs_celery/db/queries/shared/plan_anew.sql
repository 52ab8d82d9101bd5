-- For statements whose filters are mostly NULL: a plan made once for all of them uses no index. Set for
-- the transaction only, so that a transaction pooler may stand between.
SELECT pg_catalog.set_config('plan_cache_mode', 'force_custom_plan', true)
