"""YAML of files for commands: what would be read as few expect, or not at all, is refused with its line."""

from __future__ import annotations

from typing import Any

import yaml

from pyoco_server.model.flow.yaml_document import surprise


def load_yaml(text: str) -> Any:
    """What a YAML document holds.

    Raises:
        yaml.YAMLError: It is none, has a key twice, or a value that YAML 1.1 takes for another one.
        ValueError: A value cannot be.
        RecursionError: It is nested too deeply.
    """
    return yaml.load(text, _StrictLoader)  # noqa: S506 - a safe one


class _StrictLoader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._looked_at: set[int] = set()

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if isinstance(node, yaml.ScalarNode) and not node.style:
            reason = surprise(node.tag.rpartition(":")[2], node.value)
            if reason is not None:
                raise yaml.constructor.ConstructorError(None, None, reason, node.start_mark)
        return super().construct_object(node, deep=deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        # Before what it merges is put among its own keys, which may say otherwise.
        if id(node) not in self._looked_at:
            self._looked_at.add(id(node))
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        raise yaml.constructor.ConstructorError(
                            None, None, f"{key.value} is given twice", key.start_mark
                        )
                    seen.add(key.value)
        super().flatten_mapping(node)
