"""Who may open a stream, by what, and for how long."""
