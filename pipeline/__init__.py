"""The night, the command line and the configuration; nothing imports this package."""
