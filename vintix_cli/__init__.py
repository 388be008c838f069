"""The `vintix` command: parses, calls a pipeline, renders. No logic."""
