"""Keeps what a run saved, after its flow has ended and before its end is stored."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
import trio
from msgspec import UNSET
from msgspec.structs import replace

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.model.artifact import (
    FOLDER,
    Artifact,
    InvalidArtifactName,
    RefusedArtifact,
    check_name,
)
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.result import FOLDER as RESULTS_FOLDER
from pyoco_server.model.result import Result, ResultNote, file_name, kept_name
from pyoco_server.model.run import RunStatus, TaskRecord, without_records
from pyoco_server.settings import Settings
from pyoco_server.store.artifacts import ArtifactStore
from pyoco_server.store.pieces import FilePieces
from pyoco_server.store.threads import in_thread
from pyoco_server.worker.attempt import Attempt, Ending
from pyoco_server.worker.saved_files import anything_saved, find_saved, open_saved, refusal

log = structlog.get_logger(__name__)

_MOST_REFUSED = 20
# The list must leave room in the snapshot for what is written with it, and not crowd it.
_SNAPSHOT_ROOM_BYTES = 8 * 1024
_LIST_BYTES = 64 * 1024
_REFUSED_BYTES = 4 * 1024
# What an artifact's entry has at most, besides its names.
_LONGEST: Final[dict[str, Any]] = {"size_bytes": 2**53, "sha256_hex": "0" * 64}
_TRIES = 3
_NOT_WHOLE = "it was not written whole: no room on the worker's disk"

_RETRY_SECONDS = 1.0
# What is left behind so is found by the gateway in the end.
_DROP_SECONDS = 5.0


class ArtifactSaver:
    """Keeps the artifacts of one attempt after the other.

    Args:
        store: Where.
        connection: Tells whether NATS is there.
        settings: How much is kept; what is beyond it is refused, and the run ends as it would have.
    """

    def __init__(self, store: ArtifactStore, connection: Connection, settings: Settings) -> None:
        self._store = store
        self._connection = connection
        self._settings = settings

    async def keep(self, attempt: Attempt, ending: Ending, workdir: Path) -> None:
        """Keep what the flow left in its folder, now that it has ended; nothing of a run that is cancelled.

        The attempt is told what was kept and what was refused; cancelled, of what was kept till then.
        """
        if ending.status is RunStatus.CANCELLED or attempt.cancel_asked:
            return
        # What was saved under a name that leads elsewhere is told of, also where nothing is in the folder.
        if attempt.saved_by_name or anything_saved(workdir):
            with attempt.interruptible():
                await self._save(attempt, workdir)

    async def _save(self, attempt: Attempt, workdir: Path) -> None:
        names: list[str] = []
        refusals: list[RefusedArtifact] = []
        if anything_saved(workdir):
            names, refusals = await in_thread(
                find_saved, workdir, self._settings.artifact_max_count, abandon_on_cancel=True
            )
        list_room = _list_room(attempt, self._settings.max_run_snapshot_bytes)
        work = _Work(attempt, self._settings.artifact_run_max_bytes, list_room)
        for refused in (*refusals, *_named_outside(attempt.records)):
            work.refuse(refused)
        # First, for they have less room each.
        for task, record in attempt.records.items():
            if record.result and record.result.value is UNSET:
                work.note(await self._keep_result(work, workdir, task, record.result))
        tasks = {name: task for task, rec in attempt.records.items() for name in rec.artifacts}
        for name in names:
            try:
                work.check_room(Artifact(**_LONGEST, name=name, task=tasks.get(name)))
                kept = await self._keep_file(work, workdir, (FOLDER, name), name, tasks.get(name))
            except Refused as error:
                work.refuse(refusal(name, str(error)))
            else:
                work.take(kept)

    async def drop(self, attempt: Attempt) -> None:
        """Remove what was kept of an attempt that is not the one that counts; best effort."""
        names = [artifact.name for artifact in attempt.artifacts]
        names += [kept_name(result.task) for result in attempt.results if not result.refused]
        if names:
            with trio.move_on_after(_DROP_SECONDS):
                await self._store.drop(attempt.run_id, attempt.claim.attempt, names)

    async def _keep_result(self, work: _Work, workdir: Path, task: str, note: ResultNote) -> Result:
        """Keep a result, or say why not."""
        result = Result(task=task, size_bytes=note.size_bytes, cut=note.cut)
        try:
            work.check_room(replace(result, sha256_hex="0" * 64))
            self._check_result(note.size_bytes)
            self._check_size(note.size_bytes, work.bytes_left)
            place = (RESULTS_FOLDER, file_name(task))
            kept = await self._keep_file(
                work, workdir, place, kept_name(task), task, note.size_bytes
            )
        except Refused as error:
            return replace(result, refused=str(error))
        return replace(result, size_bytes=kept.size_bytes, sha256_hex=kept.sha256_hex)

    async def _keep_file(
        self,
        work: _Work,
        workdir: Path,
        place: tuple[str, str],
        name: str,
        task: str | None,
        whole: int | None = None,
    ) -> Artifact:
        """Keep the file that is there under its name in the folder, under a ``name``.

        With ``whole``, it has so many bytes, or could not be written.
        """
        tries = 0
        while True:
            try:
                file = await in_thread(open_saved, workdir, *place)
                with file:
                    size = os.fstat(file.fileno()).st_size
                    if whole not in (None, size):
                        raise Refused(_NOT_WHOLE)
                    self._check_size(size, work.bytes_left)
                    return await self._store.keep(
                        work.attempt.run_id,
                        work.attempt.claim.attempt,
                        name,
                        # No more than was looked at: what still writes it must not pass the limits.
                        FilePieces(file, size),
                        task,
                    )
            except OSError as error:
                if whole is not None and isinstance(error, FileNotFoundError):
                    raise Refused(_NOT_WHOLE) from None
                raise Refused(f"it cannot be read: {error}") from None
            except BridgeError as error:
                if not self._connection.status.connected:
                    # The end of the run waits for NATS as well.
                    await self._connection.changed()
                    continue
                tries += 1
                if tries == _TRIES:
                    raise Refused(f"it could not be stored: {error}") from None
            await trio.sleep(_RETRY_SECONDS)

    def _check_result(self, size: int) -> None:
        most = self._settings.result_max_bytes
        if size > most:
            raise Refused(
                f"it has {size} bytes of JSON; one result may have {most} (PYOCO_RESULT_MAX_BYTES)"
            )

    def _check_size(self, size: int, left: int) -> None:
        if size > self._settings.artifact_max_bytes:
            raise Refused(
                f"it has {size} bytes; one artifact may have {self._settings.artifact_max_bytes} "
                "(PYOCO_ARTIFACT_MAX_BYTES)"
            )
        if size > left:
            raise Refused(
                f"it has {size} bytes and {left} are left of the {self._settings.artifact_run_max_bytes} "
                "that a run may have (PYOCO_ARTIFACT_RUN_MAX_BYTES)"
            )


class Refused(Exception):
    """A file that is not kept; the text says why."""


@dataclass
class _Work:
    """How far the saving is."""

    attempt: Attempt
    bytes_left: int
    list_left: int
    refused_left: int = _REFUSED_BYTES

    def check_room(self, entry: Artifact | Result) -> None:
        if len(encode_json(entry)) > self.list_left:
            raise Refused(
                "the run's snapshot has no room to list it (PYOCO_MAX_RUN_SNAPSHOT_BYTES)"
            )

    def take(self, artifact: Artifact) -> None:
        self.attempt.artifacts.append(artifact)
        self.bytes_left -= artifact.size_bytes
        self.list_left -= len(encode_json(artifact)) + 1

    def note(self, result: Result) -> None:
        """Tell of a result, kept or not, as far as there is room."""
        if result.refused is not None:
            log.warning(
                "result not kept",
                run_id=self.attempt.run_id,
                task=result.task,
                reason=result.refused,
            )
        room = len(encode_json(result)) + 1
        if room <= self.list_left:
            self.attempt.results.append(result)
            self.list_left -= room
            self.bytes_left -= 0 if result.refused else result.size_bytes

    def refuse(self, refused: RefusedArtifact) -> None:
        log.warning(
            "artifact not kept",
            run_id=self.attempt.run_id,
            artifact=refused.name,
            reason=refused.reason,
        )
        room = len(encode_json(refused)) + 1
        if len(self.attempt.artifacts_refused) < _MOST_REFUSED and room <= self.refused_left:
            self.attempt.artifacts_refused.append(refused)
            self.refused_left -= room


def _list_room(attempt: Attempt, snapshot_bytes: int) -> int:
    """How many bytes of JSON the list may have."""
    if snapshot_bytes <= 0:
        return _LIST_BYTES
    taken = len(encode_json(without_records(attempt.stored.snapshot)))
    states = len(encode_json(attempt.tasks))
    return max(0, min(_LIST_BYTES, snapshot_bytes - taken - states - _SNAPSHOT_ROOM_BYTES))


def _named_outside(records: dict[str, TaskRecord]) -> list[RefusedArtifact]:
    """What tasks saved under names that the engine took for paths to elsewhere."""
    refused = []
    for record in records.values():
        for name in record.artifacts:
            try:
                check_name(name)
            except InvalidArtifactName as error:
                refused.append(refusal(name, str(error)))
    return refused
