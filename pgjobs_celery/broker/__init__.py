"""kombu's transport and channel over rows."""
