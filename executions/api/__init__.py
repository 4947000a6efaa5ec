"""REST: executions to be read under /api/v1, and the description of it."""
