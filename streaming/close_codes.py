"""Why a connection is closed, and what its client should do. One table. Pure."""

from enum import Enum, StrEnum


class ClientAction(StrEnum):
    """What a client does on a close code."""

    DONE = "done"
    RECONNECT = "reconnect with cursor"
    STOP = "stop"


class CloseCode(Enum):
    """A code of RFC 6455 §7.4 or of ours (4000 to 4999), its client's action, its meaning."""

    DONE = 1000, ClientAction.DONE, "the final snapshot was sent: nothing follows"
    GOING_AWAY = 1001, ClientAction.RECONNECT, "the server is going away"
    INTERNAL_ERROR = 1011, ClientAction.RECONNECT, "the server failed on this connection"
    BAD_REQUEST = 4400, ClientAction.STOP, "the request is wrong; the reason says how"
    NOT_AUTHENTICATED = 4401, ClientAction.STOP, "log in first"
    NOT_FOUND = 4404, ClientAction.STOP, "there is no such execution for you"
    TOO_SLOW = 4408, ClientAction.RECONNECT, "the client reads too slowly"
    TOO_MANY = 4429, ClientAction.RECONNECT, "too many connections"

    def __init__(self, code: int, action: ClientAction, meaning: str) -> None:
        self.code = code
        self.action = action
        self.meaning = meaning
