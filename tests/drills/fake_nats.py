"""A NATS server with JetStream in memory, as far as runs need it: streams, buckets, pull consumers.

It speaks at the level of messages, so that all code above `Connection` is the real one. Its clock is trio's.
"""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import trio

from pyoco_server.jetstream.requests import Headers, RawMessage

_ACK = "$JS.ACK."
_API = "$JS.API."
_ADVISORY = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES"
_DUPLICATE_SECONDS = 120.0

Send = Callable[[str, RawMessage], None]


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject is one of a pattern's."""
    if pattern == subject:
        return True
    wanted, given = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(given) > index
        if index >= len(given) or token not in ("*", given[index]):
            return False
    return len(wanted) == len(given)


@dataclass(frozen=True, slots=True)
class Stored:
    """A message in a stream."""

    seq: int
    subject: str
    payload: bytes
    headers: Headers
    at: float


@dataclass
class Stream:
    """A stream; ``latest_only`` keeps the last message of each subject, as a bucket does."""

    name: str
    subjects: str
    latest_only: bool = False
    messages: dict[int, Stored] = field(default_factory=dict)
    last_seq: int = 0
    last_of: dict[str, int] = field(default_factory=dict)
    ids: dict[str, tuple[int, float]] = field(default_factory=dict)
    consumers: dict[str, Consumer] = field(default_factory=dict)
    batches: dict[str, list[tuple[str, bytes, Headers]]] = field(default_factory=dict)

    def publish(self, subject: str, payload: bytes, headers: Headers) -> dict[str, Any]:
        """Store a message; return the acknowledgement."""
        if "Nats-Batch-Id" in headers:
            return self._publish_in_batch(subject, payload, headers)
        refused = self._refused(subject, headers)
        return refused or self._store(subject, payload, headers)

    def _publish_in_batch(self, subject: str, payload: bytes, headers: Headers) -> dict[str, Any]:
        batch = headers["Nats-Batch-Id"]
        messages = self.batches.setdefault(batch, [])
        messages.append((subject, payload, headers))
        if "Nats-Batch-Commit" not in headers:
            return {}
        del self.batches[batch]
        if len(messages) != int(headers["Nats-Batch-Sequence"]):
            return _error(400, 10176, "atomic publish batch is incomplete")
        for each, _, its_headers in messages:
            if refused := self._refused(each, its_headers):
                if "duplicate" in refused:
                    return _error(400, 10201, "batch contains duplicate message id")
                return refused
        last = [self._store(*message) for message in messages][-1]
        return last | {"batch": batch, "count": len(messages)}

    def _refused(self, subject: str, headers: Headers) -> dict[str, Any] | None:
        """Why a message is not stored; None where it may be."""
        expected = headers.get("Nats-Expected-Last-Subject-Sequence")
        if expected is not None and int(expected) != self.last_of.get(subject, 0):
            return _error(400, 10071, f"wrong last sequence: {self.last_of.get(subject, 0)}")
        seq, since = self.ids.get(headers.get("Nats-Msg-Id", ""), (0, -2 * _DUPLICATE_SECONDS))
        if trio.current_time() - since < _DUPLICATE_SECONDS:
            return {"stream": self.name, "seq": seq, "duplicate": True}
        return None

    def _store(self, subject: str, payload: bytes, headers: Headers) -> dict[str, Any]:
        now = trio.current_time()
        message_id = headers.get("Nats-Msg-Id")
        self.last_seq += 1
        stored = Stored(self.last_seq, subject, payload, dict(headers), now)
        if self.latest_only:
            self.messages.pop(self.last_of.get(subject, 0), None)
        self.messages[stored.seq] = stored
        self.last_of[subject] = stored.seq
        if message_id is not None:
            self.ids[message_id] = (stored.seq, now)
        for consumer in tuple(self.consumers.values()):
            consumer.dispatch()
        return {"stream": self.name, "seq": stored.seq}

    def delete(self, seq: int) -> bool:
        """Remove a message."""
        for consumer in self.consumers.values():
            consumer.pending.pop(seq, None)
        gone = self.messages.pop(seq, None)
        if gone is not None and self.last_of.get(gone.subject) == seq:
            del self.last_of[gone.subject]
        return gone is not None

    def next_from(self, seq: int, pattern: str) -> Stored | None:
        """The first message from a sequence on."""
        found = (x for x in self.messages.values() if x.seq >= seq and matches(pattern, x.subject))
        return min(found, key=lambda each: each.seq, default=None)


@dataclass(slots=True)
class _Pending:
    deadline: float
    count: int


@dataclass(slots=True)
class _Pull:
    reply: str
    batch: int
    until: float


@dataclass
class Consumer:
    """A pull consumer, durable or not."""

    server: Server
    stream: Stream
    name: str
    config: dict[str, Any]
    cursor: int = 1
    sequence: int = 0
    pending: dict[int, _Pending] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    again: list[int] = field(default_factory=list)
    pulls: deque[_Pull] = field(default_factory=deque)

    @property
    def explicit(self) -> bool:
        """Whether it wants acknowledgements."""
        return self.config.get("ack_policy") == "explicit"

    @property
    def pattern(self) -> str:
        """What it takes of the stream."""
        return self.config.get("filter_subject") or ">"

    def waiting(self) -> int:
        """How many messages it has not delivered yet."""
        return sum(
            x.seq >= self.cursor and matches(self.pattern, x.subject)
            for x in self.stream.messages.values()
        )

    def pull(self, reply: str, body: dict[str, Any]) -> None:
        """Take a pull request."""
        expires = body.get("expires", 0) / 1e9
        pull = _Pull(reply, body.get("batch", 1), trio.current_time() + expires)
        self.pulls.append(pull)
        self.dispatch()
        if pull not in self.pulls:
            return
        if body.get("no_wait") or not expires:
            self._end(pull, 404, "No Messages")
        else:
            self.server.later(expires, lambda: self._end(pull, 408, "Request Timeout"))

    def drop_pulls(self, pattern: str) -> None:
        """Forget the pulls that are to be answered there."""
        self.pulls = deque(each for each in self.pulls if not matches(pattern, each.reply))

    def _end(self, pull: _Pull, status: int, text: str) -> None:
        if pull in self.pulls:
            self.pulls.remove(pull)
            headers = {"Status": str(status), "Description": text}
            self.server.send(pull.reply, RawMessage(pull.reply, b"", headers))

    def dispatch(self) -> None:
        """Deliver what can be delivered."""
        while self.pulls:
            pull = self.pulls[0]
            stored = self._next()
            if stored is None:
                return
            pull.batch -= 1
            if pull.batch <= 0:
                self.pulls.popleft()
            self._deliver(pull.reply, stored)

    def _next(self) -> Stored | None:
        while self.again:
            stored = self.stream.messages.get(self.again.pop(0))
            if stored is None:
                continue
            if 0 < self.config.get("max_deliver", -1) <= self.counts.get(stored.seq, 0):
                self._give_up(stored.seq)
                continue
            return stored
        stored = self.stream.next_from(self.cursor, self.pattern)
        if stored is not None:
            self.cursor = stored.seq + 1
        return stored

    def _give_up(self, seq: int) -> None:
        told = {
            "stream": self.stream.name,
            "consumer": self.name,
            "stream_seq": seq,
            "deliveries": self.counts[seq],
        }
        subject = f"{_ADVISORY}.{self.stream.name}.{self.name}"
        self.server.publish(subject, json.dumps(told).encode(), {})

    def _deliver(self, reply: str, stored: Stored) -> None:
        self.sequence += 1
        count = self.counts[stored.seq] = self.counts.get(stored.seq, 0) + 1
        ack = (
            f"{_ACK}{self.stream.name}.{self.name}.{count}.{stored.seq}.{self.sequence}."
            f"{int(self.server.unix(stored.at) * 1e9)}.{self.waiting()}"
        )
        if self.explicit:
            wait = self.config.get("ack_wait", 30e9) / 1e9
            self.pending[stored.seq] = _Pending(trio.current_time() + wait, count)
            self.server.later(wait, lambda: self._expire(stored.seq, count))
        self.server.send(reply, RawMessage(stored.subject, stored.payload, stored.headers, ack))

    def _expire(self, seq: int, count: int) -> None:
        pending = self.pending.get(seq)
        if pending is None or pending.count != count:
            return
        left = pending.deadline - trio.current_time()
        if left > 1e-6:
            self.server.later(left, lambda: self._expire(seq, count))
        else:
            self._again(seq)

    def _again(self, seq: int) -> None:
        if self.pending.pop(seq, None) is not None:
            self.again.append(seq)
            self.dispatch()

    def acknowledge(self, seq: int, payload: bytes) -> None:
        """Take an acknowledgement of any kind."""
        pending = self.pending.get(seq)
        if payload.startswith(b"+WPI"):
            if pending is not None:
                pending.deadline = trio.current_time() + self.config.get("ack_wait", 30e9) / 1e9
        elif payload.startswith(b"-NAK"):
            delay = json.loads(payload[4:] or b"{}").get("delay", 0) / 1e9
            if pending is None:
                return
            if delay <= 0:
                self._again(seq)
            else:
                pending.deadline = trio.current_time() + delay
                self.server.later(delay, lambda: self._expire(seq, pending.count))
        else:
            self.pending.pop(seq, None)
            if self.config.get("durable_name"):
                self.stream.delete(seq)


class Server:
    """The server; made inside a nursery, which its timers live in.

    Args:
        nursery: Where timers run.
        epoch: The unix time at trio's time 0.
    """

    def __init__(self, nursery: trio.Nursery, epoch: float) -> None:
        self._nursery = nursery
        self._epoch = epoch
        self.streams: dict[str, Stream] = {}
        self.clients: list[Send] = []
        self.on_store: Callable[[Stored], None] = lambda stored: None

    def unix(self, moment: float) -> float:
        """A moment of trio's clock as unix time."""
        return self._epoch + moment

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        """Call something after a while."""

        async def wait() -> None:
            await trio.sleep(seconds)
            call()

        self._nursery.start_soon(wait)

    def send(self, subject: str, reply: RawMessage) -> None:
        """Hand a message to whoever subscribes to the subject."""
        for client in self.clients:
            client(subject, reply)

    def lose_interest(self, pattern: str) -> None:
        """Nobody subscribes to it any more: pulls that are to be answered there are over."""
        for stream in self.streams.values():
            for consumer in stream.consumers.values():
                consumer.drop_pulls(pattern)

    def publish(
        self, subject: str, payload: bytes, headers: Headers, reply: str = ""
    ) -> bytes | None:
        """Take a message; return the answer to it, where it has one."""
        if subject.startswith(_API):
            return self._on_api(subject.removeprefix(_API), payload, reply)
        if subject.startswith(_ACK):
            tokens = subject.split(".")
            stream = self.streams.get(tokens[2])
            consumer = stream.consumers.get(tokens[3]) if stream else None
            if consumer is not None:
                consumer.acknowledge(int(tokens[5]), payload)
            return b""
        for stream in self.streams.values():
            if matches(stream.subjects, subject):
                before = stream.last_seq
                answer = stream.publish(subject, payload, headers)
                for seq in range(before + 1, stream.last_seq + 1):
                    self.on_store(stream.messages[seq])
                    self._schedule(stream, stream.messages[seq])
                return json.dumps(answer).encode()
        self.send(subject, RawMessage(subject, payload, headers, reply))
        return None

    def _schedule(self, stream: Stream, held: Stored) -> None:
        """Publish a message when it is due that is to be held back till then; a later one replaces it."""
        when = held.headers.get("Nats-Schedule")
        if when is None:
            return
        for each in [x for x in stream.messages.values() if x.subject == held.subject]:
            if each.seq != held.seq:
                stream.delete(each.seq)
        due = datetime.fromisoformat(when.removeprefix("@at ")).timestamp()

        def fire() -> None:
            if stream.delete(held.seq):
                self.publish(held.headers["Nats-Schedule-Target"], held.payload, {})

        # The server looks every quarter of a second.
        self.later(max(due - self.unix(trio.current_time()), 0.0) + 0.25, fire)

    def _on_api(self, what: str, payload: bytes, reply: str) -> bytes | None:
        body: dict[str, Any] = json.loads(payload or b"{}")
        verb = ".".join(what.split(".")[:2])
        if what.startswith("CONSUMER.MSG.NEXT."):
            self._pull(what.split(".")[3:], reply, body)
            return None
        rest = what.split(".")[2:]
        name = rest[1] if what.startswith(("STREAM.MSG", "CONSUMER.MSG")) else rest[0]
        stream = self.streams.get(name)
        if stream is None:
            return json.dumps(_error(404, 10059, "stream not found")).encode()
        if what.startswith("STREAM.MSG.GET"):
            answer = self._get(stream, body)
        elif what.startswith("STREAM.MSG.DELETE"):
            done = stream.delete(body["seq"])
            answer = {"success": True} if done else _error(400, 10057, "no message found")
        elif verb == "STREAM.INFO":
            answer = self._info(stream)
        elif verb == "CONSUMER.CREATE":
            answer = self._create(stream, body["config"])
        else:
            answer = self._consumer(stream, verb, rest[1])
        return json.dumps(answer).encode()

    def _pull(self, where: list[str], reply: str, body: dict[str, Any]) -> None:
        stream = self.streams.get(where[0])
        consumer = stream.consumers.get(where[1]) if stream else None
        if consumer is None:
            self.send(reply, RawMessage(reply, b"", {"Status": "503"}))
        else:
            consumer.pull(reply, body)

    def _get(self, stream: Stream, body: dict[str, Any]) -> dict[str, Any]:
        if "last_by_subj" in body:
            pattern = body["last_by_subj"]
            hits = [x for x in stream.messages.values() if matches(pattern, x.subject)]
            found = max(hits, key=lambda each: each.seq, default=None)
            if "*" not in pattern and ">" not in pattern:
                found = stream.messages.get(stream.last_of.get(pattern, 0))
        elif "next_by_subj" in body:
            found = stream.next_from(body.get("seq", 0), body["next_by_subj"])
        else:
            found = stream.messages.get(body["seq"])
        if found is None:
            return _error(404, 10037, "no message found")
        headers = "".join(f"{name}: {value}\r\n" for name, value in found.headers.items())
        return {
            "message": {
                "subject": found.subject,
                "seq": found.seq,
                "time": datetime.fromtimestamp(self.unix(found.at), UTC).strftime(
                    "%Y-%m-%dT%H:%M:%S.%f000Z"
                ),
                "data": base64.b64encode(found.payload).decode(),
                "hdrs": base64.b64encode(f"NATS/1.0\r\n{headers}\r\n".encode()).decode(),
            }
        }

    def _info(self, stream: Stream) -> dict[str, Any]:
        seqs = stream.messages.keys()
        state = {
            "messages": len(seqs),
            "first_seq": min(seqs, default=stream.last_seq + 1),
            "last_seq": stream.last_seq,
        }
        return {
            "config": {"name": stream.name, "allow_msg_schedules": True},
            "state": state,
            "created": "2026-01-01T00:00:00Z",
            "ts": datetime.fromtimestamp(self.unix(trio.current_time()), UTC).isoformat(),
        }

    def _create(self, stream: Stream, config: dict[str, Any]) -> dict[str, Any]:
        consumer = stream.consumers.get(config["name"])
        if consumer is None:
            consumer = Consumer(self, stream, config["name"], config)
            if config.get("deliver_policy") == "by_start_sequence":
                consumer.cursor = config["opt_start_seq"]
            elif config.get("deliver_policy") == "new":
                consumer.cursor = stream.last_seq + 1
            stream.consumers[config["name"]] = consumer
        return {"name": consumer.name, "num_pending": consumer.waiting()}

    def _consumer(self, stream: Stream, verb: str, name: str) -> dict[str, Any]:
        consumer = stream.consumers.get(name)
        if consumer is None:
            return _error(404, 10014, "consumer not found")
        if verb == "CONSUMER.DELETE":
            del stream.consumers[name]
            return {"success": True}
        return {
            "name": name,
            "config": consumer.config,
            "num_pending": consumer.waiting(),
            "num_ack_pending": len(consumer.pending) + len(consumer.again),
            "delivered": {"consumer_seq": consumer.sequence, "stream_seq": consumer.cursor - 1},
        }


def _error(code: int, err_code: int, text: str) -> dict[str, Any]:
    return {"error": {"code": code, "err_code": err_code, "description": text}}
