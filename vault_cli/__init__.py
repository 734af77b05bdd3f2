"""The `vault` commands, one file a command group."""
