"""What a scheduler needs to start a run, and how it is submitted."""
