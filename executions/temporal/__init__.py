"""Mirroring Temporal: what its runs do becomes executions, through the one write path."""
