"""Which layouts a run could have, which of them are best, and why."""
