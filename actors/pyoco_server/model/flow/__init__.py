"""The flow.yaml: its text, its keys, its graph, and what is wrong with it."""
