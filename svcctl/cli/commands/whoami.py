from svcctl.cli import sessions
from svcctl.cli.context import Context, backend_location, is_api, open_api


def whoami(context: Context) -> None:
    """Show who you are to the backend, and what you may do."""
    location = backend_location(context)
    if is_api(location):
        remote = open_api(context, str(location))
        context.at_end(remote.close)
        identity = sessions.of_grant(remote.url, remote.whoami())
    else:
        if isinstance(location, str):
            context.backend.projects()  # is the database there, and does it take this user?
        identity = sessions.of_store(location, context.actor)
    context.show(identity, sessions.blocks(identity))
