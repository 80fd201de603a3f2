from svcctl.cli.context import Context
from svcctl.cli.output import Success


def secrets_rewrap(context: Context) -> None:
    """Seal every secret again with a new master key.

    A new secret.key takes the place of the old one. Where the key is in SVCCTL_SECRET_KEY, the next one is read from
    SVCCTL_SECRET_KEY_NEXT. Killed in between, the command can be typed again."""
    count = context.store.rewrap()
    context.show({"rewrapped": count}, [Success(f"{count} stored value{'' if count == 1 else 's'} sealed again")])
