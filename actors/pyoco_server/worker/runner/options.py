"""How the child of a slot is started, as its worker says it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pyoco_server.worker.runner.catalog import PluginCatalog, PluginQuery
from pyoco_server.worker.runner.environment import exposed, inherited
from pyoco_server.worker.runner.protocol import ChildOptions, Limits
from pyoco_server.worker.runner.task_user import TaskUser


@dataclass(frozen=True, kw_only=True)
class RunnerOptions:
    """How a child is started.

    Attributes:
        python: The interpreter.
        flow_resolver: ``module:function`` or ``path/file.py:function``; ``None`` for a child that
            takes only runs which bring their flow.yaml.
        extra_sys_path: Folders to import from, before all others.
        env: Environment variables of the child, besides the few that it inherits.
        environ: Where inherited variables and those of a flow's ``expose_env`` come from.
        limits: How much of what a run makes is taken.
        user: Whose the child is; None for the worker's own user.
        group: The folder of the control group that the child joins; None for that of its guardian.
        catalog: What is known of plug-ins, for all children that share it.
    """

    python: str = sys.executable
    flow_resolver: str | None = None
    extra_sys_path: tuple[str, ...] = ()
    # Not shown: what logs these options must not log the worker's credentials.
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    limits: Limits = field(default_factory=Limits)
    user: TaskUser | None = None
    group: str | None = None
    catalog: PluginCatalog = field(default_factory=PluginCatalog, repr=False, compare=False)

    @property
    def variables(self) -> dict[str, str]:
        """The whole environment of the child."""
        return {**inherited(self.environ), **self.env}

    @property
    def import_paths(self) -> tuple[str, ...]:
        """Those folders, wherever the current one is."""
        return tuple(str(Path.cwd() / folder) for folder in self.extra_sys_path)

    def for_child(self) -> ChildOptions:
        """Return what the child is told of them."""
        return ChildOptions(
            directory=str(Path.cwd()),
            flow_resolver=self.flow_resolver,
            extra_sys_path=self.import_paths,
            limits=self.limits,
            user=self.user,
            group=self.group,
        )

    def plugin_query(self, names: Iterable[str]) -> PluginQuery:
        """Return what is looked for where a flow may see these variables."""
        return PluginQuery(
            python=self.python,
            paths=self.import_paths,
            env=frozenset({**self.variables, **exposed(names, self.environ)}.items()),
            seconds=self.limits.import_seconds,
            user=self.user,
        )
