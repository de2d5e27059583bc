"""What people write: run files and cards, as closed pydantic models."""
