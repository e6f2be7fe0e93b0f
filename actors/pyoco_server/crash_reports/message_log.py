"""What one incarnation of an actor was sent: recorded, written down, and replayed into a fresh actor.

A replay under a mock clock is the same each time, to the byte: that is how a crash becomes a test. What the
actor itself asks of the world (a server, a disk) is not recorded; the test gives it something to ask.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import trio

from pyoco_server.crash_reports.message_text import from_value, to_value
from pyoco_server.kernel import (
    Actor,
    ActorDown,
    ChildSpec,
    Reply,
    Restart,
    SupervisorSpec,
    TapEvent,
    TapKind,
    describe_error,
    open_system,
)
from pyoco_server.kernel.messages import Envelope

# Of a second: what remains of a clock's reading, so that a replay comes to the same figure.
_DIGITS: Final = 6


class LoggedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a log."""

    at: float
    """When it was sent, in seconds since the incarnation began; 0 for one that waited for it."""
    sender: str | None
    """Path of the sending actor, None for code outside of the tree."""
    asked: bool
    """Whether its sender waited for an answer."""
    message: Any
    """The message as JSON values that name its type."""
    outcome: str
    """handled, refused or crashed."""
    error: str | None = None
    """The refusal or crash."""


class MessageLog(msgspec.Struct, frozen=True, kw_only=True):
    """All messages that one incarnation took up, in the order in which they were sent."""

    path: str
    received: tuple[LoggedMessage, ...]
    complete: bool = True
    """False where messages at the beginning were forgotten: a replay may then come to another end."""
    ended: str | None = None
    """The error by which the incarnation ended; None for one that lived on."""

    def encode(self) -> bytes:
        """Write it down, as JSON for people."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @classmethod
    def decode(cls, raw: bytes) -> MessageLog:
        """Read what `encode` wrote.

        Raises:
            msgspec.DecodeError: It is no message log.
        """
        return msgspec.json.decode(raw, type=cls)


@dataclass(eq=False, slots=True)
class _Delivery:
    """A message, and what came of it once it was taken up."""

    at: float
    sender: str | None
    asked: bool
    message: object
    outcome: str = ""
    error: BaseException | None = None


@dataclass(eq=False, slots=True)
class _Life:
    """What is known of the present incarnation of one actor."""

    began: float
    taken: deque[_Delivery]
    # In the order of the mailbox, with what is in hand; what ended with an incarnation is taken out later.
    waiting: deque[_Delivery] = field(default_factory=deque)
    forgotten: bool = False


@dataclass(eq=False)
class Recorder:
    """A tap that keeps what each actor was sent in its present incarnation (`ActorSystem.tap`).

    Args:
        on_death: Called with the log of each incarnation that ends by an error; must not block.
        most: How many messages are kept of an incarnation, the latest.
    """

    on_death: Callable[[MessageLog], None] | None = None
    most: int = 1000
    _lives: dict[str, _Life] = field(default_factory=dict)

    def __call__(self, event: TapEvent) -> None:
        """Take an event."""
        match event.kind:
            case TapKind.STARTED:
                self.begin(event.path, event.at)
            case TapKind.DIED:
                if self.on_death is not None:
                    self.on_death(self.log(event.path, event.error))
            case TapKind.TOLD | TapKind.ASKED:
                asked = event.kind is TapKind.ASKED
                delivery = _Delivery(event.at, event.sender, asked, event.message)
                self._life(event).waiting.append(delivery)
            case TapKind.HANDLED | TapKind.REFUSED | TapKind.CRASHED:
                self._take(self._life(event), event)

    def begin(self, path: str, at: float) -> None:
        """Forget the incarnation before; what was sent to it and not taken up goes to the next one."""
        before = self._lives.get(path)
        # Requests, too: those that came behind its end wait in the mailbox.
        waiting = deque[_Delivery]() if before is None else before.waiting
        self._lives[path] = _Life(at, deque(maxlen=self.most), waiting)

    def log(self, path: str, error: BaseException | None = None) -> MessageLog:
        """What the present incarnation of the actor at ``path`` took up so far, and what ended it.

        Raises:
            KeyError: Nothing of it was recorded.
        """
        life = self._lives[path]
        return MessageLog(
            path=path,
            received=tuple(
                LoggedMessage(
                    at=round(max(each.at - life.began, 0.0), _DIGITS),
                    sender=each.sender,
                    asked=each.asked,
                    message=to_value(each.message),
                    outcome=each.outcome,
                    error=None if each.error is None else describe_error(each.error),
                )
                for each in life.taken
            ),
            complete=not life.forgotten,
            ended=None if error is None else describe_error(error),
        )

    def _take(self, life: _Life, event: TapEvent) -> None:
        if all(each.message is not event.message for each in life.waiting):
            return  # it was sent before the recording began
        # What was sent before it ended with an incarnation: in its hand, or as a request that it left.
        while (delivery := life.waiting.popleft()).message is not event.message:
            pass
        delivery.outcome, delivery.error = event.kind.value, event.error
        life.forgotten = life.forgotten or len(life.taken) == self.most
        life.taken.append(delivery)

    def _life(self, event: TapEvent) -> _Life:
        if event.path not in self._lives:  # it lived before the recording began
            self._lives[event.path] = _Life(event.at, deque(maxlen=self.most), forgotten=True)
        return self._lives[event.path]


async def replay(
    log: MessageLog, start: Callable[[], Actor[Any]], *, settle: float = 60.0
) -> MessageLog:
    """Send a fresh actor the messages of a log, each at its time, and return what came of it.

    Meant for a mock clock: on a real one it takes as long as what was recorded.

    Args:
        log: What was recorded.
        start: Makes the actor.
        settle: How many seconds it may live on behind the last message, for what its own tasks still do.

    Raises:
        NotReplayable: A message cannot be made again.
        ExceptionGroup: The actor did not start.
    """
    messages = [(each, from_value(each.message)) for each in log.received]
    room = max(len(messages), 1)
    *above, name = log.path.strip("/").split("/")
    spec: ChildSpec[Any] = ChildSpec(
        name, start, restart=Restart.TEMPORARY, mailbox_capacity=room, start_within=float("inf")
    )
    tree: ChildSpec[Any] | SupervisorSpec = spec
    for supervisor in reversed(above):
        tree = SupervisorSpec(supervisor, [tree])
    deaths: list[MessageLog] = []
    scope = trio.CancelScope()

    def on_death(death: MessageLog) -> None:
        deaths.append(death)
        scope.cancel()

    recorder = Recorder(on_death, most=room)
    async with open_system(SupervisorSpec("replay", [tree])) as system:
        began = trio.current_time()
        recorder.begin(log.path, began)
        with system.tap(recorder), scope, suppress(ActorDown):
            for received, message in messages:
                await trio.sleep_until(began + received.at)
                reply: Reply[object] | None = Reply() if received.asked else None
                await spec.ref.put(Envelope(message, reply, received.sender))
            await trio.sleep(settle)
    return deaths[0] if deaths else recorder.log(log.path)
