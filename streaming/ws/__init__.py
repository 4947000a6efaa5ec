"""Channels, each module beside the AsyncAPI document that describes it."""
