"""A schedule in the formats of other programs, one module each: text in, nothing written."""
