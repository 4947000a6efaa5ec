"""The project: settings, urls, ASGI, the Daphne server and the embedded servers."""
