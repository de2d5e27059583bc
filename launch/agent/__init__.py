"""One agent per host: it starts ranks, passes on what they say, and fences itself."""
