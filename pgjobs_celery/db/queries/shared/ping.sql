-- Whether the server answers, and whether it takes writes. A standby does not, until it has taken over.
SELECT pg_catalog.current_setting('transaction_read_only') = 'off'
