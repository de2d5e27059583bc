"""The fork server of a host: imports the engine once, and forks ranks for its agent."""
