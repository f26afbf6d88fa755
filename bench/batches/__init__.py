"""What batches cost the requests beside them, and what they cost at all."""
