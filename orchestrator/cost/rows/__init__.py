"""What a measured row says: its machine, model, layout and software, and what it leaves out."""
