from __future__ import annotations

import json

import msgspec
import pytest
from msgspec.structs import replace

from pyoco_server.model.api_key import (
    ALL_ROLES,
    ApiKeyRecord,
    MalformedApiKey,
    Principal,
    Role,
    UnreadableKey,
    bucket_key,
    check_key_id,
    decode_key,
    matches,
    new_key,
    parse_key,
)
from pyoco_server.model.json_text import encode_json

# Made with pyoco-server 0.5.1: generate_api_key(tenant_id="demo", now=1700000000.5, pepper="salty").
OLD_KEY = "pyoco_2d20ce9bbbe5f8ea6c5c2b08.gbfcQKvE7tTkmkPQ3fCRJ3P2hWpT31Dteqh6gj4A1iQ"
OLD_RECORD = (
    b'{"key_id":"2d20ce9bbbe5f8ea6c5c2b08","tenant_id":"demo","kdf":"pbkdf2_hmac_sha256","iterat'
    b'ions":200000,"salt_b64":"fD_JFanGbPVqo1JyjOm3mg","hash_b64":"bK8HqKGnkXrd3rUa_MOy9POTwLbwq'
    b'zz-5yfkg-LV3c8","created_at":1700000000.5,"revoked_at":null}'
)


def test_a_new_key_matches_its_record_only_with_its_pepper() -> None:
    text, record = new_key("demo", now=5.0, pepper="p", roles=[Role.OPERATE], expires_at=9.0)
    key_id, secret = parse_key(text)
    assert record.key_id == key_id
    assert bucket_key(key_id) == f"api_keys.{key_id}"
    assert matches(record, secret, "p")
    assert not matches(record, secret, None)
    assert not matches(record, secret + "x", "p")
    assert not matches(None, secret, "p")
    assert (record.created_at, record.expires_at) == (5.0, 9.0)
    assert record.principal == Principal("demo", key_id, frozenset([Role.OPERATE]))
    assert decode_key(encode_json(record)) == record
    assert secret not in encode_json(record).decode()


def test_a_record_of_051_is_read_and_counts_as_all_roles() -> None:
    key_id, secret = parse_key(OLD_KEY)
    record = decode_key(OLD_RECORD)
    assert (record.key_id, record.tenant_id, record.created_at) == (key_id, "demo", 1700000000.5)
    assert matches(record, secret, "salty")
    assert not matches(record, secret, "sweet")
    assert record.principal.roles == ALL_ROLES


def test_a_record_has_every_field_that_051_wants() -> None:
    fields = json.loads(encode_json(new_key("demo", now=1.0)[1]))
    assert set(json.loads(OLD_RECORD)) <= set(fields)
    assert fields["revoked_at"] is None
    assert fields["kdf"] == "pbkdf2_hmac_sha256"
    assert "=" not in fields["salt_b64"] + fields["hash_b64"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pyoco_",
        "pyoco_abcdefgh",
        "pyoco_abcdefgh.short",
        "pyoco_abcdefg.0123456789abcdef",
        "xpyoco_abcdefgh.0123456789abcdef",
        "pyoco_abcdefgh.0123456789abcdef.x",
        "pyoco_abcdefgh.0123456789abcdef\n",
        "pyoco_abcdéfgh.0123456789abcdef",
        "pyoco_" + "a" * 65 + ".0123456789abcdef",
        "pyoco_abcdefgh." + "s" * 257,
    ],
)
def test_a_text_that_is_no_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(MalformedApiKey) as caught:
        parse_key(text)
    assert str(caught.value) == "an API key is written pyoco_<key_id>.<secret>"


@pytest.mark.parametrize("tenant", ["", "a b", "a.b", "x" * 65, "é", "a\n"])
def test_a_tenant_id_has_few_characters(tenant: str) -> None:
    with pytest.raises(MalformedApiKey):
        new_key(tenant, now=1.0)


def test_a_key_id_has_few_characters() -> None:
    assert check_key_id("abcdefgh") == "abcdefgh"
    for text in ("short", "a" * 65, "abcdefg*", "abcdefgh.x"):
        with pytest.raises(MalformedApiKey):
            check_key_id(text)


GOOD = new_key("demo", now=1.0)[1]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        encode_json(replace(GOOD, kdf="md5")),
        encode_json(replace(GOOD, iterations=10**9)),
        encode_json(replace(GOOD, iterations=-1)),
        encode_json(replace(GOOD, hash_b64="")),
        encode_json(replace(GOOD, hash_b64="a")),
        encode_json(replace(GOOD, salt_b64="a")),
    ],
)
def test_what_is_no_record_is_never_taken_for_one(raw: bytes) -> None:
    with pytest.raises(UnreadableKey):
        decode_key(raw)


def test_where_a_record_says_nothing_051s_defaults_hold() -> None:
    fields = msgspec.to_builtins(GOOD) | {"kdf": None, "iterations": 0, "created_at": None}
    del fields["roles"], fields["expires_at"]
    record = decode_key(msgspec.json.encode(fields))
    assert (record.kdf, record.iterations, record.created_at) == ("pbkdf2_hmac_sha256", 200_000, 0)


def test_when_a_key_is_usable() -> None:
    assert GOOD.usable(1e12)
    assert not replace(GOOD, revoked_at=1.0).usable(0.0)
    short = replace(GOOD, expires_at=10.0)
    assert short.usable(9.9)
    assert not short.usable(10.0)


def test_what_a_principal_sees_and_is_called() -> None:
    everybody, a = Principal(), Principal("a", "k")
    assert everybody.sees("a")
    assert everybody.sees(None)
    assert a.sees("a")
    assert not a.sees("b")
    assert not a.sees(None)
    assert (everybody.actor, a.actor) == (None, "api_key:k")


def test_an_unknown_role_gives_nothing() -> None:
    record: ApiKeyRecord = replace(GOOD, roles=["god"])
    assert record.principal.roles == frozenset()
