"""Start a run on many hosts by OpenSSH."""
