"""What is known between two events of a history: by workers at once, by Temporal when asked."""
