"""Stage 1: an expert for each task, with the returns that it and random play are measured at."""
