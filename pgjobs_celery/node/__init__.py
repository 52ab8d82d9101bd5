"""This process as a holder of claims: its node, its limits, the queues that it uses."""
