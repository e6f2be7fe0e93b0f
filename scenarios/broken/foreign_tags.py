"""A worker that takes jobs of a tag that is none of its own."""

from dataclasses import replace


def greedy(original):
    def worker_tree(connection, settings, options, *rest, **more):
        return original(
            connection, settings, replace(options, tags=("tpu", *options.tags)), *rest, **more
        )

    return worker_tree


BREAK = {"pyoco_server.worker.tree:worker_tree": greedy}
