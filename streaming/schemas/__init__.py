"""Schemas of what travels."""
