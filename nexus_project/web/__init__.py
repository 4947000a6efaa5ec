"""What our Daphne is made of: connections, HTTP, WebSockets, each with its bounds, and the end."""

# Daphne installs Twisted's asyncio reactor when imported: before anything of Twisted.
import daphne.server  # noqa: F401
