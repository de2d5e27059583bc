"""Programs that travel to hosts over ssh: one file each, the standard library alone."""
