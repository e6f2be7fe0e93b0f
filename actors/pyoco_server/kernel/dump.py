"""The tree as text for people: what a process prints when it is asked how its actors are."""

from __future__ import annotations

from collections.abc import Iterator

from .tree import Node, Work

_HEAD = ("path", "state", "incarnation", "mailbox", "restarts", "messages", "mean", "last error")


def render(node: Node) -> str:
    """Lay out ``node`` and everything below it, one aligned line each, without a final line feed.

    Mailboxes read ``waiting/capacity``, with ``+n`` for senders that wait for room.
    """
    rows = [_HEAD, *(_row(each, depth) for each, depth in _walk(node, 0))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _walk(node: Node, depth: int) -> Iterator[tuple[Node, int]]:
    yield node, depth
    for child in node.children:
        yield from _walk(child, depth + 1)


def _row(node: Node, depth: int) -> tuple[str, ...]:
    mailbox = ""
    if node.mailbox is not None:
        box = node.mailbox
        senders = f"+{box.waiting_senders}" if box.waiting_senders else ""
        mailbox = f"{box.depth}/{box.capacity}{senders}"
    error = node.last_error or ""
    if node.last_error_age_seconds is not None:
        error = f"{error} ({node.last_error_age_seconds:.0f} s ago)"
    return (
        "  " * depth + node.path,
        node.state.value,
        str(node.incarnation),
        mailbox,
        str(node.restarts),
        "" if node.work is None else str(node.work.messages),
        _mean(node.work),
        error,
    )


def _mean(work: Work | None) -> str:
    if work is None or work.messages == 0:
        return ""
    return f"{work.busy_seconds / work.messages * 1000:.1f} ms"
