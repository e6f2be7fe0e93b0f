"""A worker that takes jobs of a tag that is none of its own."""

from dataclasses import replace


def break_tags(tree):
    original = tree.worker_tree

    def worker_tree(connection, settings, options, *rest, **more):
        return original(
            connection, settings, replace(options, tags=(*options.tags, "tpu")), *rest, **more
        )

    tree.worker_tree = worker_tree


BREAK = {"pyoco_server.worker.tree": break_tags}
