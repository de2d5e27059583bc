"""Whether hosts can take part in a run, found out before anything starts."""
