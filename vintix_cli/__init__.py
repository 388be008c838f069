"""The `vintix` command: parses, calls a pipeline, renders. No logic."""

import warnings

# It takes the right package for `pipelines`. No code of a user's that may want another runs here.
with warnings.catch_warnings(action="ignore"):
    import vintix as vintix
