"""The task catalogue: the paper's 102 tasks and their variations as data, and its registry."""
