"""Usage and metrics: one record for each ended request, and the sums made of them."""
