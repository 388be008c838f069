"""What rollouts look like: one page of figures and tables, pictures of them, and films."""
