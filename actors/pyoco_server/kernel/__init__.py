"""Actors, mailboxes and supervisors on trio. Knows nothing of NATS, of HTTP or of pyoco."""

from .actor import Actor
from .dump import render
from .errors import (
    ActorDown,
    AskExpired,
    InvalidSpec,
    KernelError,
    MailboxFull,
    NotAnswered,
    Refusal,
    RestartLimitExceeded,
    StartExpired,
    UnknownActor,
)
from .exchange import Exchange, Received, Recorder, replay
from .message_text import NotReplayable
from .messages import Reply, Request
from .plan import Plan, Strategy, plan
from .ref import ActorRef
from .restart import Backoff, Intensity, RestartWindow
from .spec import ChildSpec, Restart, SupervisorSpec
from .switchboard import Down
from .system import ActorSystem, open_system
from .tap import TapEvent, TapKind
from .task import task
from .tree import MailboxPicture, Node, State, Work

__all__ = [
    "Actor",
    "ActorDown",
    "ActorRef",
    "ActorSystem",
    "AskExpired",
    "Backoff",
    "ChildSpec",
    "Down",
    "Exchange",
    "Intensity",
    "InvalidSpec",
    "KernelError",
    "MailboxFull",
    "MailboxPicture",
    "Node",
    "NotAnswered",
    "NotReplayable",
    "Plan",
    "Received",
    "Recorder",
    "Refusal",
    "Reply",
    "Request",
    "Restart",
    "RestartLimitExceeded",
    "RestartWindow",
    "StartExpired",
    "State",
    "Strategy",
    "SupervisorSpec",
    "TapEvent",
    "TapKind",
    "UnknownActor",
    "Work",
    "open_system",
    "plan",
    "render",
    "replay",
    "task",
]
