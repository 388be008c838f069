"""Pictures of running tasks."""
