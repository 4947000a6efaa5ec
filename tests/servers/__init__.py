"""Real servers for tests, each ended with the session that started it."""
