"""Writing what Temporal tells through the one write path."""
