"""Where commands are applied."""
