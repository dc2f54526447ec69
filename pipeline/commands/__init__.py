"""One module for each verb of the command line: `arguments(parser)` and `run(args) -> Answer`."""
