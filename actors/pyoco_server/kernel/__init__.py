"""Actors, mailboxes and supervisors on trio. Knows nothing of NATS, of HTTP or of pyoco."""

from .actor import Actor
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
from .messages import Reply, Request
from .record import describe_error
from .ref import ActorRef
from .registry import Down, TapEvent, TapKind
from .restart import Backoff, Intensity, RestartPlan, RestartWindow, Strategy, plan
from .spec import ChildSpec, Restart, SupervisorSpec
from .system import ActorSystem, open_system
from .task import task
from .tree import MailboxPicture, State, TreeNode, Work

__all__ = [
    "Actor",
    "ActorDown",
    "ActorRef",
    "ActorSystem",
    "AskExpired",
    "Backoff",
    "ChildSpec",
    "Down",
    "Intensity",
    "InvalidSpec",
    "KernelError",
    "MailboxFull",
    "MailboxPicture",
    "NotAnswered",
    "Refusal",
    "Reply",
    "Request",
    "Restart",
    "RestartLimitExceeded",
    "RestartPlan",
    "RestartWindow",
    "StartExpired",
    "State",
    "Strategy",
    "SupervisorSpec",
    "TapEvent",
    "TapKind",
    "TreeNode",
    "UnknownActor",
    "Work",
    "describe_error",
    "open_system",
    "plan",
    "task",
]
