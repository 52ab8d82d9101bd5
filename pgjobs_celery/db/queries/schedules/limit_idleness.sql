-- A program that is stopped in the middle of this transaction must not hold its locks for ever.
SELECT pg_catalog.set_config('idle_in_transaction_session_timeout', %(milliseconds)s::text, true)
