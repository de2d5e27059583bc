"""Ranks and coordinates, the groups they form, and the hosts that hold them."""
