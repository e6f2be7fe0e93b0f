"""The worker side of the tree, one module an actor, and the runner that executes flows."""
