"""A small shop for mails: what its jobs are, and who enqueues them. Its tests are the point."""
