"""What the project costs and how it compares: scripts to run on a quiet machine, and their results."""
