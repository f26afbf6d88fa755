"""The way in: limits, admission and fairness, then a task's row and its message."""
