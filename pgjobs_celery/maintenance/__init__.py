"""Services that run beside the tasks: each is a name, an interval and a method."""
