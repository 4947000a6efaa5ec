"""What a run's history says, as changes of its execution. Pure."""
