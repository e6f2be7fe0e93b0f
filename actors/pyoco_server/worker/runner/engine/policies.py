"""The policy of a task: what its file, its attributes and its function say of it, in that order."""

from __future__ import annotations

from typing import Final

from pyoco.core.models import Task

from pyoco_server.model.flow.task_policy import (
    NO_POLICY,
    POLICY_KEYS,
    TaskPolicy,
    check_policy,
)

_ENGINE_DEFAULTS: Final = {
    "retries": 0,
    "timeout_sec": None,
    "fail_policy": "stop",
    "trigger_policy": "ALL",
}
_OUR_KEYS: Final = tuple(key for key in POLICY_KEYS if key not in _ENGINE_DEFAULTS)
# What a file says, as a whole: that there are no retries looks like nothing in the engine's attribute.
_FILE: Final = "file_policy"
_ATTRIBUTES: Final = len(vars(Task(func=lambda: None, name="")))


def policy_of(task: Task) -> TaskPolicy:
    """Return the policy of a task.

    Raises:
        InvalidPolicy: An attribute of it is not what it should be.
    """
    function = getattr(task.func, "__pyoco_policy__", NO_POLICY)
    said = vars(task)
    if (
        len(said) == _ATTRIBUTES
        and not task.retries
        and not task.timeout_sec
        and task.fail_policy == "stop"
        and task.trigger_policy == "ALL"
    ):
        return function
    ours = {key: said[key] for key in _OUR_KEYS if key in said}
    engine = {
        key: said[key] for key, default in _ENGINE_DEFAULTS.items() if said[key] not in (default, 0)
    }
    # Both may be there, for the engine's own are all that its other parts look at.
    for name, other in (("on_failure", "fail_policy"), ("trigger", "trigger_policy")):
        if name in ours:
            engine.pop(other, None)
    filed: TaskPolicy = said.get(_FILE, NO_POLICY)
    return filed.over(check_policy(ours | engine).over(function))


def set_policy(task: Task, policy: TaskPolicy) -> None:
    """Have a task say what a file says, besides what that says of the task that it is a copy of."""
    if policy == NO_POLICY:
        return
    setattr(task, _FILE, policy.over(vars(task).get(_FILE, NO_POLICY)))
    for key in policy.__struct_fields__:
        value = getattr(policy, key)
        if value is not None:
            setattr(task, key, value)
    if policy.trigger is not None:
        task.trigger_policy = policy.trigger.upper()


def copy_policy(task: Task, source: Task) -> None:
    """Have a task say what another does, as far as the engine does not know of it."""
    for key in (*_OUR_KEYS, _FILE):
        if key in vars(source):
            setattr(task, key, getattr(source, key))
