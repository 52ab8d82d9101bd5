"""Look at jobs and queues, and change them: ``jobs()``, ``queues()``, filters, revokes."""
