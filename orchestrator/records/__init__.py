"""What rooms hand to each other: frozen dataclasses, checked once, trusted afterwards."""
