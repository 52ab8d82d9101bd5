"""What runs beside the tasks: a service is a name, an interval and a method."""
