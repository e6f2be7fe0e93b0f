"""How the text of a variable becomes a value: the kinds of settings there are."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit

_FLAGS: Final = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
LEVELS: Final = {
    **{level: level for level in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")},
    "WARN": "WARNING",
    "FATAL": "CRITICAL",
}


@dataclass(frozen=True, slots=True)
class Reader:
    """How the text of a variable becomes its value."""

    takes: str
    """What is right, for the error and the documentation."""
    read: Callable[[str], object]
    """Raises ``ValueError`` for what is not."""
    secret: bool = False
    """Whether its text is never shown."""


def pattern(expression: str, takes: str) -> Reader:
    """Takes a text that the whole expression matches."""

    def read(text: str) -> str:
        if re.fullmatch(expression, text) is None:
            raise ValueError(text)
        return text

    return Reader(takes, read)


# A duration in nanoseconds is a number of 64 bits to NATS, and so is any other number.
_MOST_SECONDS: Final = 9e9
_MOST: Final = 2**63 - 1
# Python takes digits of any script, and underscores between them.
_WHOLE: Final = re.compile(r"[-+]?[0-9]+")
_DECIMAL: Final = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


def seconds(least: float = 0.0, *, zero: str | None = None) -> Reader:
    """Takes a duration of ``least`` or more; 0 only where it has a meaning."""

    def read(text: str) -> float:
        number = float(text) if _DECIMAL.fullmatch(text) else -1.0
        if zero is None if number == 0 else not least <= number <= _MOST_SECONDS:
            raise ValueError(text)
        return number

    if zero is None:
        return Reader("seconds, more than 0", read)
    return Reader(f"seconds, {f'{least:g} or more, or ' if least else ''}0 for {zero}", read)


def count(least: int, most: int = _MOST, *, unlimited: int | None = None) -> Reader:
    """Takes a whole number from ``least`` on, or the one that stands for no limit."""

    def read(text: str) -> int:
        if _WHOLE.fullmatch(text) is None or len(text) > 20:
            raise ValueError(text)
        number = int(text)
        if number == 0 and unlimited == -1:
            return unlimited  # 0.5.1 passed it on, and NATS takes it for the same
        if not least <= number <= most and number != unlimited:
            raise ValueError(text)
        return number

    limit = "" if unlimited is None else f", or {unlimited} for no limit"
    upper = " or more" if most == _MOST else f" to {most}"
    return Reader(f"a whole number, {least}{upper}{limit}", read)


def file_with(what: str, *marks: bytes) -> Reader:
    """Takes the path of a file that is there, and holds these."""

    def read(text: str) -> str:
        try:
            held = Path(text).read_bytes()
        except OSError as error:
            raise ValueError(text) from error
        if not all(mark in held for mark in marks):
            raise ValueError(text)
        return text

    return Reader(f"the path of a file that can be read, with {what}", read)


def folder(text: str) -> str:
    """Read the path of a folder, which need not be there yet."""
    path = Path(text)
    above = next((each for each in (path, *path.parents) if _exists(each)), None)
    if above is None or not above.is_dir() or "\0" in text:
        raise ValueError(text)
    return text


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return False  # what is above tells
    except OSError as error:  # such as a name that is too long
        raise ValueError(str(path)) from error


Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks_in(text: str) -> tuple[Network, ...]:
    """The networks of a list with commas in between.

    Raises:
        ValueError: One of them is none.
    """
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    return tuple(ipaddress.ip_network(part, strict=False) for part in parts)


def networks(text: str) -> str:
    """Read addresses and networks."""
    networks_in(text)
    return text


def servers(text: str) -> str:
    """Read the URLs of NATS servers, with commas in between."""
    for url in text.split(","):
        scheme, divided, rest = url.rpartition("://")
        if divided and scheme not in {"nats", "tls"}:
            raise ValueError(text)
        # Raises as well for a port that is none, and for half of an address in brackets.
        parts = urlsplit(f"nats://{rest.removesuffix('/')}")
        good = parts.hostname is not None and not (parts.path or parts.query or parts.fragment)
        if not good or parts.port == 0 or _BLANK.search(url):
            raise ValueError(text)
        if parts.netloc.rpartition("@")[2].startswith("["):
            ipaddress.IPv6Address(parts.hostname)
        elif _HOST_NAME.fullmatch(parts.hostname or "") is None:
            raise ValueError(text)
    return text


def choice(values: Mapping[str, object], takes: str, *, upper: bool = False) -> Reader:
    """Takes one of the words, in any case."""

    def read(text: str) -> object:
        return values[text.upper() if upper else text.lower()]

    return Reader(takes, read)


def word(*words: str) -> Reader:
    """Takes one of these words, in any case."""
    return choice({each: each for each in words}, " or ".join(words))


def language(text: str) -> str:
    """Read a language: ja, en or auto."""
    # 0.5.1 takes a locale such as ja_JP, and these words for "auto".
    short = text.lower()[:2]
    if short in {"ja", "en"}:
        return short
    if text.lower() in {"auto", "server", "system", "default"}:
        return "auto"
    raise ValueError(text)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


_BLANK: Final = re.compile(r"\s")
# Letters may be of any script (RFC 5891); lengths are those of RFC 1035, 2.3.4.
_HOST_NAME: Final = re.compile(r"(?=.{1,254}\Z)[\w-]{1,63}(\.[\w-]{1,63})*\.?")
_NAME: Final = r"[A-Za-z0-9_-]+"
# NATS takes 255 characters, of which some are ours (KV_, $KV., OBJ_).
BUCKET: Final = pattern(r"[A-Za-z0-9_-]{1,200}", "a bucket name of A-Z a-z 0-9 _ -")
STREAM: Final = pattern(r"[A-Za-z0-9_-]{1,200}", "a stream name of A-Z a-z 0-9 _ -")
SUBJECT: Final = pattern(
    rf"(?=.{{1,200}}\Z){_NAME}(\.{_NAME})*", "a subject of tokens with dots in between"
)
FLAG: Final = choice(_FLAGS, "1, true, yes, on or 0, false, no, off")
TEXT: Final = pattern(r".*\S.*", "a text")
FOLDER: Final = Reader("the path of a folder, or of one that can be made", folder)
URL: Final = Reader("nats://host:port, or several with commas in between", servers)
CREDENTIALS: Final = file_with(
    "a user's JWT and seed", b"BEGIN NATS USER JWT", b"BEGIN USER NKEY SEED"
)
CERTIFICATES: Final = file_with("certificates as PEM", b"CERTIFICATE-----")
PRIVATE_KEY: Final = file_with("a private key as PEM", b"PRIVATE KEY-----")
_LABEL: Final = r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?"
_HOST: Final = rf"({_LABEL}(\.{_LABEL})*|\[[0-9a-fA-F:.]+\])"
HOSTS: Final = pattern(
    rf"{_HOST}(\s*,\s*{_HOST})*", "names of hosts, without ports, with commas in between"
)
ROOT_PATH: Final = r"(/[A-Za-z0-9._~-]*[A-Za-z0-9_~-])+"
NETWORKS: Final = Reader("addresses or networks, with commas in between", networks)
SECRET: Final = Reader("a text", str, secret=True)
POSITIVE: Final = seconds()
# JetStream keeps nothing for less.
KEPT: Final = seconds(0.1, zero="no limit")
