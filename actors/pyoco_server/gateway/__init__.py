"""The gateway side of the tree, one module an actor."""
