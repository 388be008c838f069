"""Training datasets: reading windows of packed rows."""
