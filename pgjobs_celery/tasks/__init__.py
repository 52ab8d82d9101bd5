"""PgTask: attempts, exceptions, the running job, the handle of a published one."""
