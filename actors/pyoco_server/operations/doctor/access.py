"""Checks of what those may do who have a key."""

from __future__ import annotations

from pyoco_server.model.api_key import Role, decode_key
from pyoco_server.model.counted import counted
from pyoco_server.operations.doctor.finding import Finding, Severity
from pyoco_server.operations.doctor.look import Look, values_of


async def check_access(look: Look) -> list[Finding]:
    """Look whether who may submit may have workers execute anything."""
    bucket = look.settings.auth_kv_bucket
    if not look.settings.callables.open:
        return []
    keys = await values_of(
        look.connection, look.streams, bucket, lambda entry: decode_key(entry.value)
    )
    submitting = sum(
        key.usable(look.now) and Role.SUBMIT in key.principal.roles for key in keys or ()
    )
    if not submitting:
        return []
    return [
        Finding(
            check="access.callables",
            severity=Severity.INFO,
            what=f"{counted(submitting, 'API key')} may submit, and a flow.yaml may name any function, "
            "such as subprocess:getoutput: each of them is a shell on the workers",
            where="PYOCO_FLOW_CALLABLES",
            advice="name what flows may use, for gateways and workers, such as "
            "PYOCO_FLOW_CALLABLES=ours.*,wheel:*, and give tasks a user of their own "
            "(PYOCO_WORKER_TASK_USER)",
        )
    ]
