"""How the truth reaches clients: stream, publisher, hub, consumer, message schemas."""
