"""An LLM router that works like a conveyor belt: clients ask, tasks queue, GPU hosts pull."""

__version__ = "0.1.0"
