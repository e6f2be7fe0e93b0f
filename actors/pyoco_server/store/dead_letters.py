"""Writes dead letters: one for each job or run that could not be brought to a good end."""

from __future__ import annotations

import time
from typing import Any

import structlog
import trio
from msgspec.structs import replace

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError, PayloadTooLarge, Unavailable
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.model.dead_letter import DeadLetter, DeadLetterReason, encode_dead_letter
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.job import Job
from pyoco_server.model.limits import limits_in

log = structlog.get_logger(__name__)

# A stream that was deleted is made again within seconds.
_NOBODY_SECONDS = 12.0
_RETRY_SECONDS = 0.2


class DeadLetterOffice:
    """Publishes to ``<prefix>.<tag>``. Losing a letter never stops a run from ending: it is logged.

    Args:
        connection: The way to JetStream.
        subject_prefix: ``pyoco.dlq``.
    """

    def __init__(self, connection: Connection, subject_prefix: str) -> None:
        self._connection = connection
        self._prefix = subject_prefix

    async def write(
        self,
        tag: str,
        reason: DeadLetterReason,
        error: str,
        *,
        msg_id: str | None = None,
        **details: Any,
    ) -> bool:
        """Publish a letter; return whether it was acknowledged within 2 seconds.

        Where NATS is there and the stream is not, it is waited for, twelve seconds at most.

        Args:
            tag: The tag of the job, or its last subject token where it is no readable job.
            reason: Why.
            error: What went wrong, for people.
            msg_id: Makes one letter of several with the same id, within the stream's duplicate window.
            details: Further fields of `DeadLetter`.
        """
        letter = DeadLetter(timestamp=time.time(), reason=reason, error=error, tag=tag, **details)
        try:
            try:
                await self._publish(tag, letter, msg_id)
            except PayloadTooLarge:
                # The run's own snapshot has the params as well, for as long as it is kept.
                await self._publish(tag, replace(letter, params=None), msg_id)
        except BridgeError as failure:
            log.error(  # noqa: TRY400 - what failed is told in full by its text
                "dead letter not written",
                err_id=ErrorId.DEAD_LETTER_NOT_PUBLISHED,
                reason=str(failure),
                dead_letter_reason=reason,
                run_id=details.get("run_id"),
            )
            return False
        return True

    async def _publish(self, tag: str, letter: DeadLetter, msg_id: str | None) -> None:
        subject, payload = f"{self._prefix}.{tag}", encode_dead_letter(letter)
        deadline = trio.current_time() + _NOBODY_SECONDS
        while True:
            try:
                await publish_acked(self._connection, subject, payload, msg_id=msg_id, within=2.0)
            except Unavailable:
                if not self._connection.status.connected or trio.current_time() >= deadline:
                    raise
                await trio.sleep(_RETRY_SECONDS)
            else:
                return

    async def write_for(
        self,
        job: Job,
        reason: DeadLetterReason,
        error: str,
        *,
        worker_id: str | None = None,
        msg_id: str | None = None,
    ) -> bool:
        """Publish a letter about a readable job; see `write`."""
        return await self.write(
            job.tag,
            reason,
            error,
            run_id=job.run_id,
            flow_name=job.flow_name,
            tags=job.tags,
            tenant_id=job.tenant_id,
            api_key_id=job.api_key_id,
            worker_id=worker_id,
            msg_id=msg_id,
            params=job.params,
            workflow_yaml_sha256=job.workflow_yaml_sha256,
            workflow_yaml_bytes=job.workflow_yaml_bytes,
            **limits_in(job),
        )
