"""Pictures of running tasks: a way to draw without a window, and a task as it is played."""
