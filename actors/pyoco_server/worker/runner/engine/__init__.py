"""Executes a flow of the engine's (pyoco 0.8) objects: its steps, and the tries of each task."""
