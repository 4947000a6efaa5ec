"""Valkey, whatever VALKEY_URL says it is: connections to it, and hearing what it announces."""
