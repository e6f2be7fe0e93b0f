# Written by tests/contract/unasync.py from aio_schedules.py: change that and run `uv run poe client`.
"""Calls about schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from pyoco_server.client.requests import IDEMPOTENCY_HEADER, given, new_idempotency_key, path_of
from pyoco_server.client.sync_submissions import SubmissionCalls

if TYPE_CHECKING:
    from pyoco_server.client.answers import (
        BackfillAnswerDict,
        CalendarDict,
        ScheduleDeletedDict,
        ScheduleFieldsDict,
        SchedulePageDict,
        SchedulePreviewDict,
        ScheduleUpdateDict,
        ScheduleViewDict,
        TickPageDict,
        TriggeredDict,
        WholeScheduleDict,
    )


class ScheduleCalls(SubmissionCalls):
    """Schedules: what runs when. Their fields are those of `POST /schedules`."""

    def list_schedules(
        self,
        *,
        flow: str | None = None,
        tag: str | None = None,
        paused: bool | None = None,
        label: str | None = None,
        q: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> SchedulePageDict:
        """Return a page of schedules, by id, as ``{items, next_cursor, total}``.

        Args:
            flow: Only those of this flow.
            tag: Only those that go to this tag.
            paused: Only paused ones, or only others.
            label: Only those with this label, as ``name=value``.
            q: Only those whose id or name holds this text.
            limit: How many at most.
            cursor: The ``next_cursor`` of the page before.

        Example::

            page = client.list_schedules(flow="report", paused=False)
            print([schedule["schedule_id"] for schedule in page["items"]])  # ['nightly']
        """
        return self._get(
            "/schedules",
            flow=flow,
            tag=tag,
            paused=paused,
            label=label,
            q=q,
            limit=limit,
            cursor=cursor,
        )

    def all_schedules(self, *, label: str | None = None) -> list[ScheduleViewDict]:
        """Return every schedule, or every one with a label, by id.

        Example::

            schedules = client.all_schedules()
            print([schedule["schedule_id"] for schedule in schedules])  # ['nightly']
        """
        found: list[ScheduleViewDict] = []
        cursor: str | None = None
        while True:
            page = self.list_schedules(label=label, limit=500, cursor=cursor)
            found += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    def get_schedule(self, schedule_id: str) -> WholeScheduleDict:
        """Return a schedule with who has changed it.

        Raises:
            HttpProblem: 404 where there is none.

        Example::

            schedule = client.get_schedule("nightly")
            print(schedule["cron"], schedule["changes"][-1]["action"])  # 30 2 * * * create
        """
        return self._get(path_of("schedules", schedule_id))

    def create_schedule(
        self, schedule_id: str | None = None, **fields: Unpack[ScheduleFieldsDict]
    ) -> ScheduleViewDict:
        """Make a schedule; return it.

        Raises:
            HttpProblem: 409 where there is one with that id, 422 where it cannot be one.

        Example::

            schedule = client.create_schedule(
                "nightly", flow_name="report", cron="30 2 * * *", timezone="Asia/Tokyo"
            )
            print(schedule["state"])  # active
        """
        body = given(schedule_id=schedule_id) | fields
        # Not repeatable: a second one finds the first.
        return self._send("POST", "/schedules", json=body)

    def put_schedule(
        self, schedule_id: str, **fields: Unpack[ScheduleUpdateDict]
    ) -> WholeScheduleDict:
        """Make a schedule, or make it another one; what is not said is as if it were new.

        With ``version`` only where it has that version.

        Raises:
            HttpProblem: 409 where it has another version, 422 where it cannot be one.

        Example::

            schedule = client.put_schedule("nightly", flow_name="report", every_sec=3600)
            print(schedule["every_sec"])  # 3600
        """
        path = path_of("schedules", schedule_id)
        # A second one of a version finds the next.
        repeatable = "version" not in fields
        return self._send("PUT", path, json=fields, repeatable=repeatable)

    def update_schedule(
        self, schedule_id: str, **fields: Unpack[ScheduleUpdateDict]
    ) -> WholeScheduleDict:
        """Change some fields of a schedule; with ``version`` only that version of it.

        Raises:
            HttpProblem: 404 where there is none, 409 where it has another version.

        Example::

            schedule = client.update_schedule("nightly", cron="0 3 * * *")
            print(schedule["cron"])  # 0 3 * * *
        """
        path = path_of("schedules", schedule_id)
        repeatable = "version" not in fields
        return self._send("PATCH", path, json=fields, repeatable=repeatable)

    def delete_schedule(self, schedule_id: str) -> ScheduleDeletedDict:
        """Delete a schedule; its runs stay.

        Example::

            client.delete_schedule("nightly")
        """
        # Not repeatable: a second one does not find it.
        return self._send("DELETE", path_of("schedules", schedule_id))

    def pause_schedule(self, schedule_id: str) -> WholeScheduleDict:
        """Let no tick of a schedule have a run until it is resumed.

        Example::

            schedule = client.pause_schedule("nightly")
            print(schedule["state"])  # paused
        """
        return self._send("POST", path_of("schedules", schedule_id, "pause"), repeatable=True)

    def resume_schedule(self, schedule_id: str) -> WholeScheduleDict:
        """Go on with the ticks of a schedule from now on.

        Example::

            schedule = client.resume_schedule("nightly")
            print(schedule["state"])  # active
        """
        return self._send("POST", path_of("schedules", schedule_id, "resume"), repeatable=True)

    def trigger_schedule(
        self, schedule_id: str, *, idempotency_key: str | None = None
    ) -> TriggeredDict:
        """Submit a run of a schedule now; return ``{run_id, status, schedule_id}``.

        Example::

            run = client.trigger_schedule("nightly")
            print(run["schedule_id"], run["status"])  # nightly PENDING
        """
        headers = {IDEMPOTENCY_HEADER: idempotency_key or new_idempotency_key()}
        path = path_of("schedules", schedule_id, "trigger")
        return self._send("POST", path, headers=headers, repeatable=True)

    def backfill_schedule(
        self,
        schedule_id: str,
        begin: float | str,
        end: float | str,
        *,
        limit: int | None = None,
        dry_run: bool = False,
    ) -> BackfillAnswerDict:
        """Submit the runs of past ticks that have none; return ``{items, dry_run, more}``.

        Args:
            schedule_id: The schedule.
            begin: The first moment: unix seconds, or a date and time, by the clocks of the schedule's zone
                where it says no offset.
            end: The last one.
            limit: How many ticks at most.
            dry_run: Only tell what would be done.

        Example::

            answer = client.backfill_schedule("nightly", "2026-01-05", "2026-01-07T12:00", dry_run=True)
            print([item["outcome"] for item in answer["items"]])
        """
        body = {"from": begin, "to": end, "dry_run": dry_run} | given(limit=limit)
        path = path_of("schedules", schedule_id, "backfill")
        return self._send("POST", path, json=body, repeatable=True)

    def next_ticks(self, schedule_id: str, *, count: int | None = None) -> SchedulePreviewDict:
        """Return the next ticks of a schedule as ``{ticks, spec, problem}``.

        Example::

            answer = client.next_ticks("nightly", count=3)
            print([tick["local"] for tick in answer["ticks"]])
        """
        return self._get(path_of("schedules", schedule_id, "next"), count=count)

    def preview_schedule(
        self,
        schedule_id: str | None = None,
        *,
        count: int | None = None,
        **fields: Unpack[ScheduleFieldsDict],
    ) -> SchedulePreviewDict:
        """Return the next ticks of a new schedule, or of what one is to be, as ``{ticks, spec, problem}``.

        Example::

            answer = client.preview_schedule(flow_name="report", cron="30 2 * * *", count=3)
            print(len(answer["ticks"]))  # 3
        """
        body = fields | given(schedule_id=schedule_id, count=count)
        return self._send("POST", "/schedules/preview", json=body, repeatable=True)

    def past_ticks(self, schedule_id: str) -> TickPageDict:
        """Return what became of the last ticks of a schedule as ``{items, waiting}``.

        Example::

            answer = client.past_ticks("nightly")
            print([(tick["local"], tick["outcome"]) for tick in answer["items"]])
        """
        return self._get(path_of("schedules", schedule_id, "ticks"))

    def get_calendar(
        self,
        *,
        hours: int | None = None,
        flow: str | None = None,
        tag: str | None = None,
        paused: bool | None = None,
        label: str | None = None,
        q: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> CalendarDict:
        """Return what is due in the next hours, by schedule, a page of those that `list_schedules` filters.

        Example::

            calendar = client.get_calendar(hours=48)
            print([each["schedule_id"] for each in calendar["items"]])  # ['nightly']
        """
        return self._get(
            "/schedules/calendar",
            hours=hours,
            flow=flow,
            tag=tag,
            paused=paused,
            label=label,
            q=q,
            limit=limit,
            cursor=cursor,
        )
