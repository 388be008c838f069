"""What rollouts and tasks look like: one page of figures and tables, pictures, and films."""
