"""svcctl deploys composable HTTP services to machines you own."""

__version__ = "0.1.0"
