"""What the tasks of a run see and change."""

from __future__ import annotations

from typing import Any

from pyoco.core.context import Context

from pyoco_server.worker.runner.engine.task_record import TASK


class TaskContext(Context):
    """The engine's, which notes in the record of a task what that one saved.

    The engine itself puts what all tasks save into one dictionary of the run.
    """

    def save_artifact(self, name: str, data: Any) -> str:
        """Write a file into the folder of artifacts; return its path."""
        path = super().save_artifact(name, data)
        task = TASK.get()
        if task is not None:
            task[1].artifacts[str(name)] = {"type": self.artifacts[name]["type"]}
        return path
