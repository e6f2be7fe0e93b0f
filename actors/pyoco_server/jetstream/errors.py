"""What can go wrong between us and JetStream."""

from __future__ import annotations


class BridgeError(Exception):
    """Root of all errors of the bridge."""


class Unavailable(BridgeError):
    """NATS is not connected, or nobody there answers; the request had no effect."""


class Unanswered(BridgeError):
    """No answer came in time, or the connection broke before it: whether there was an effect is open."""


class PayloadTooLarge(BridgeError):
    """The message is larger than the server takes (its ``max_payload``); it was not sent."""


class Malformed(BridgeError):
    """The subject or a header holds what NATS does not take there; nothing was sent."""


class WrongRevision(BridgeError):
    """A compare-and-set was refused: the key has another revision than the writer believed.

    Args:
        key: The key.
        expected: The revision that the writer believed, 0 for "does not exist".
    """

    def __init__(self, key: str, expected: int) -> None:
        super().__init__(f"key {key!r} does not have revision {expected} any more")
        self.key = key
        self.expected = expected


class KeyNotFound(BridgeError):
    """The bucket has no value under the key.

    Args:
        reason: Which key, which bucket.
        revision: That of the marker where the key was deleted or has expired; 0 where there is none. A
            compare-and-set that creates the key has to name it.
    """

    def __init__(self, reason: str, revision: int = 0) -> None:
        super().__init__(reason)
        self.revision = revision


class InvalidKey(KeyNotFound):
    """The text cannot be a key, so that nothing can be stored under it."""


class BatchRefused(BridgeError):
    """The server took none of the messages of a batch, nor will it; each by itself it may take.

    Args:
        reason: Why.
        lasting: It takes no batches at all.
    """

    def __init__(self, reason: str, *, lasting: bool = False) -> None:
        super().__init__(reason)
        self.lasting = lasting


class ObjectNotFound(BridgeError):
    """The object store has no object under the name, or had one that was deleted."""


class ObjectDamaged(BridgeError):
    """What an object store holds of an object is not what was put: chunks are missing or changed."""


class ApiError(BridgeError):
    """JetStream refused a request.

    Args:
        code: As in HTTP.
        err_code: JetStream's own number.
        description: Its text.
    """

    def __init__(self, code: int, err_code: int, description: str) -> None:
        super().__init__(f"JetStream: {description} (code {code}, err_code {err_code})")
        self.code = code
        self.err_code = err_code
        self.description = description


# JetStream's own numbers (nats-server, server/errors.json).
STREAM_EXISTS = 10058
CONSUMER_EXISTS = (10013, 10148)
"""With another configuration too."""
NO_MESSAGE = 10037
"""Another 404 is a missing stream."""
NOT_DELETED = (NO_MESSAGE, 10057, 10043)
"""There is no such message to delete."""
WRONG_LAST_SEQUENCE = (10071, 10164)
NO_TTL = 10166
"""This stream takes no expiry of single messages."""
NO_BATCHES = 10174
"""This stream takes no atomic batches."""


class NotFound(ApiError):
    """There is no such stream, bucket or consumer."""


class RestoreUnfinished(BridgeError):
    """What JetStream holds is only a part of a backup that is being restored."""
