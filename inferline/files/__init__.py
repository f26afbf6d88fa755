"""Files: what users upload and batches write, kept in objects, and the ports to their stores."""
