"""The stages that a stream's bytes pass on their way to the sender."""
