"""Records and ids: what is not exactly ours is refused."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vault.errors import BadRecord, ConfigError, WrongKey
from vault.record import (
    Artifact,
    BackupId,
    BackupRecord,
    BackupType,
    Reading,
    artifact_key,
    backup_of,
    parse_utc,
    record_key,
    utc,
)
from vault.sealing import MAX_RECORD_BYTES, seal, unseal
from vault.signing import Signer, Trust, key_id
from vault.store import check_key, check_name, check_prefix, is_key

SIGNER = Signer.generate()
TRUST = Trust.of([SIGNER.public_key])
NOW = datetime(2026, 11, 23, 3, 0, 0, tzinfo=UTC)
ID = BackupId(NOW, "full", "3f9a2c")

# One character more than a name may have, and the odd ones of the catalogue.
BAD_NAMES = [
    pytest.param(name, id=ascii(name)[:30])
    for name in [
        *("; rm -rf ~", "$(touch x)", "`id`", "x|nc", "a&&b", "a\nb", "shop\n"),
        *("-rf", "--output=x", "-"),
        *("..", ".", "../x", "/etc", "a/b", "a//b", "a/../b", "a\\b"),
        *("a\x00b", "a\rb", "a\tb", "\x1b[31m", "\u202eshop", "a\u2028b"),
        *("", " ", "a b", "a" * 64, "a" * 4096),
        *("e\u0301", "\u00e9", "Shop", "\uff53hop", "shop.", "shop_1", "\u0663"),
        *("*", "sho?", "[a-z]", "sh%", "sh_p", "a{0}", "{{ x }}", "%s"),
    ]
]
NAME_FAULTS = ("N01", "N02", "N03", "N04", "N05", "N06", "N11", "N12")


def artifact(source: str = "orders-db", **fields) -> Artifact:
    return Artifact(
        **{
            "source": source,
            "kind": "sqlite",
            "key": f"shop/{ID}.{source}.sqlite.zst",
            "size": 10,
            "sha256": "0" * 64,
            "plain_size": 20,
            "plain_sha256": "f" * 64,
            "compression": "zstd",
            "tool": "sqlite 3.40.1",
            "verified": "read-back",
            "restore_with": "zstd -d <in >out",
            **fields,
        }
    )


def record(**fields) -> BackupRecord:
    return BackupRecord(
        **{
            "id": str(ID),
            "app": "shop",
            "type": "full",
            "created_at": utc(NOW),
            "completed_at": utc(NOW + timedelta(seconds=9)),
            "producer": {"version": "0.1.0"},
            "artifacts": (artifact(), artifact("uploads", kind="tar")),
            **fields,
        }
    )


def sealed(change: Callable[[dict], object], signer: Signer = SIGNER) -> bytes:
    """A validly signed file with the content that *change* makes: what a broken or hostile version could write."""
    document = json.loads(seal(record(), SIGNER))
    del document["signature"]
    change(document)
    body = json.dumps(document, indent=2).encode().removesuffix(b"\n}")
    return body + b',\n  "signature": "' + signer.sign(body).encode() + b'"\n}\n'


def refused(data: bytes, key: str | None = None, match: str = "cannot be trusted") -> None:
    with pytest.raises(BadRecord, match=match):
        unseal(key or record().key, data, TRUST)


# --- seal and unseal ---

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {
            "size": st.integers(0, 2**63 - 1),
            "plain_size": st.integers(0, 2**63 - 1),
            "sha256": st.text("0123456789abcdef", min_size=64, max_size=64),
            "recipients": st.lists(texts, max_size=3).map(tuple),
            "warnings": st.lists(texts, max_size=3).map(tuple),
            "facts": st.dictionaries(texts, json_values, max_size=4),
            "seconds": st.dictionaries(texts, st.floats(0, 1e9), max_size=3),
            "restore_with": texts,
        }
    )
)
def test_a_sealed_record_is_read_as_it_was_written(fields):
    written = record(artifacts=(artifact(**fields), artifact("uploads")))
    assert unseal(written.key, seal(written, SIGNER), TRUST) == written


def test_a_sealed_record_is_plain_json_that_ends_with_its_signature():
    data = seal(record(), SIGNER)
    assert data.isascii()
    assert data.endswith(b'"\n}\n')
    assert list(json.loads(data))[-2:] == ["signer", "signature"]


@pytest.mark.fault("C07", "D11")
def test_every_single_flipped_bit_is_refused():
    data = seal(record(artifacts=(artifact(),)), SIGNER)
    key = record().key
    accepted = []
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        try:
            unseal(key, bytes(flipped), TRUST)
        except BadRecord:
            continue
        accepted.append(position)
    assert accepted == []


@pytest.mark.fault("D11")
def test_every_truncation_is_refused():
    data = seal(record(), SIGNER)
    for length in range(len(data)):
        refused(data[:length])


@pytest.mark.fault("D11", "C03")
@pytest.mark.parametrize("extra", [b"\n", b" ", b"\x00", b"{}", b"}"])
def test_bytes_before_or_after_a_record_are_refused(extra):
    data = seal(record(), SIGNER)
    refused(data + extra)
    refused(extra + data)


@pytest.mark.fault("D11")
@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 200_000, b'{"format": 1}', b"1" * 5000],
    ids=lambda data: repr(data[:15]),
)
def test_what_is_no_record_at_all_is_refused(data):
    refused(data)
    refused(data + b',\n  "signature": "' + b"0" * 128 + b'"\n}\n')


@pytest.mark.fault("D11")
def test_a_key_that_stands_there_twice_is_refused_although_it_is_signed():
    for line in (b'"app": "shop"', b'"size": 10', b'"format": 1'):
        data = seal(record(artifacts=(artifact(),)), SIGNER)
        body = data[: data.rindex(b',\n  "signature"')].replace(line, line + b",\n" + line)
        signed = body + b',\n  "signature": "' + SIGNER.sign(body).encode() + b'"\n}\n'
        refused(signed, match="twice")


@pytest.mark.fault("D11")
@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.0, [], "\x1b[2J"], ids=ascii)
def test_an_unknown_format_is_refused_by_name(version):
    with pytest.raises(BadRecord, match="its format is") as error:
        unseal(record().key, sealed(lambda document: document.update(format=version)), TRUST)
    assert "\x1b" not in str(error.value)


@pytest.mark.fault("D11", "N04")
def test_fields_that_we_do_not_know_are_refused_and_named_harmlessly():
    with pytest.raises(BadRecord, match="not known to this version") as error:
        unseal(record().key, sealed(lambda document: document.update({"\x1b[2J": 1})), TRUST)
    assert "\x1b" not in str(error.value)
    assert error.value.remedy == "Update prefect-backups."
    refused(sealed(lambda document: document["artifacts"][0].update(path="/etc/cron.d/x")))
    refused(sealed(lambda document: document["artifacts"][0].update(read={"began": 1.0, "ended": 2.0, "later": 3})))


def test_fields_that_older_versions_do_not_know_are_written_only_where_they_say_something():
    for name in (b'"offset"', b'"read":', b'"warnings": [],\n  "signer"'):
        assert name not in seal(record(), SIGNER)
    reading = Reading(began=0.5, ended=2.25)
    full = record(offset=0.0, warnings=("a remark",), artifacts=[artifact(read=reading)])
    found = unseal(full.key, seal(full, SIGNER), TRUST)
    assert (found.offset, found.warnings, found.artifacts[0].read) == (0.0, ("a remark",), reading)


@pytest.mark.fault("D11")
@pytest.mark.parametrize("field", ["id", "app", "type", "created_at", "completed_at", "artifacts", "signer"])
def test_a_missing_field_is_refused(field):
    refused(sealed(lambda document: document.pop(field)))


def test_a_record_that_we_could_not_read_is_never_written():
    unreadable = [
        {"warnings": ("file vanished: caf\udce9",)},
        {"facts": {"files": ["\udce9"]}},
        {"seconds": {"dump": float("nan")}},
        {"warnings": ("x" * MAX_RECORD_BYTES,)},
    ]
    for fields in unreadable:
        with pytest.raises(BadRecord):
            seal(record(artifacts=(artifact(**fields),)), SIGNER)


# --- who wrote it, and what it is the record of ---


@pytest.mark.fault("Z11", "D12")
def test_the_record_of_another_signer_is_refused_with_the_id_of_its_key():
    other = Signer.generate()
    data = seal(record(), other)
    with pytest.raises(WrongKey, match=key_id(other.public_key)):
        unseal(record().key, data, TRUST)
    assert unseal(record().key, data, Trust.of([], [key_id(other.public_key)])) == record()


@pytest.mark.fault("Z11", "C07")
def test_a_stranger_who_names_our_key_as_the_signer_is_refused():
    refused(sealed(lambda document: None, Signer.generate()), match="signature")


@pytest.mark.fault("D12", "C05", "C06")
@pytest.mark.parametrize(
    "key",
    [
        record_key("blog", ID),
        record_key("shop-2", ID),
        record_key("shop", BackupId(NOW + timedelta(days=1), "full", "3f9a2c")),
        record_key("shop", BackupId(NOW, "database", "3f9a2c")),
        record_key("shop", BackupId(NOW, "full", "000000")),
    ],
)
def test_a_genuine_record_under_the_key_of_another_backup_is_refused(key):
    refused(seal(record(), SIGNER), key, "it is the record of shop/")


@pytest.mark.fault("D12", "C05", "C06")
@pytest.mark.parametrize(
    "key",
    [
        f"blog/{ID}.orders-db.sqlite",
        f"shop/{ID}.uploads.sqlite",
        f"shop/{ID}.orders-db2.sqlite",
        f"shop/{ID}.orders-db",
        "shop/20260101T000000Z-full-3f9a2c.orders-db.sqlite",
        f"shop/{ID}.json",
        f"../shop/{ID}.orders-db.sqlite",
        f"shop/{ID}.orders-db./../../x",
        "",
    ],
)
def test_an_artifact_of_another_app_backup_or_source_is_refused(key):
    refused(sealed(lambda document: document["artifacts"][0].update(key=key)))


@pytest.mark.fault("D12")
@pytest.mark.parametrize(
    "change",
    [
        {"type": "database"},
        {"created_at": "2026-11-23T03:00:01Z"},
        {"completed_at": "2026-11-23T02:59:59Z"},
        {"id": "20261123T030000Z-full-000000"},
        {"app": "blog"},
        {"artifacts": []},
    ],
    ids=str,
)
def test_fields_that_contradict_each_other_are_refused(change):
    refused(sealed(lambda document: document.update(change)))


@pytest.mark.fault("D12")
def test_two_artifacts_of_one_source_are_refused():
    refused(sealed(lambda document: document["artifacts"].append(document["artifacts"][0])))


@pytest.mark.fault("C13")
@pytest.mark.parametrize("field", ["size", "plain_size"])
@pytest.mark.parametrize("size", [-1, 2**63, 10**400, "10", 10.5, 1e3, True, None, float("nan")], ids=repr)
def test_a_size_that_can_be_none_is_refused(field, size):
    refused(sealed(lambda document: document["artifacts"][0].update({field: size})))


@pytest.mark.fault("C13")
@pytest.mark.parametrize("field", ["sha256", "plain_sha256"])
@pytest.mark.parametrize("digest", ["A" * 64, "a" * 63, "a" * 65, "g" * 64, "", "a" * 64 + "\n", None])
def test_a_digest_that_can_be_none_is_refused(field, digest):
    refused(sealed(lambda document: document["artifacts"][0].update({field: digest})))


@pytest.mark.fault("C13", "C11")
@pytest.mark.parametrize("field", ["compression", "verified"])
@pytest.mark.parametrize("value", ["lz4", "", "ZSTD", "metadata", None])
def test_an_unknown_codec_or_proof_is_refused(field, value):
    refused(sealed(lambda document: document["artifacts"][0].update({field: value})))


# --- times ---


@pytest.mark.fault("Z05")
@pytest.mark.parametrize(
    "time",
    [
        "2026-11-23T03:00:09",
        "2026-11-23T03:00:09+00:00",
        "2026-11-23T04:00:09+01:00",
        "2026-11-23T03:00:09.000Z",
        "2026-11-23t03:00:09z",
        "2026-11-23 03:00:09Z",
        "2026-11-23T3:0:9Z",
        "\u0662026-11-23T03:00:09Z",
        "2026-11-23T03:00:60Z",
        "2026-02-29T03:00:00Z",
        "20261123T030009Z",
        1795402809,
        None,
    ],
    ids=ascii,
)
def test_a_time_in_any_other_form_is_refused(time):
    refused(sealed(lambda document: document.update(completed_at=time)))
    if isinstance(time, str):
        with pytest.raises(ValueError, match=r"time|day|match|second"):
            parse_utc(time)


@pytest.mark.fault("Z05")
def test_a_moment_without_a_zone_is_refused_and_any_zone_becomes_utc():
    naive = NOW.replace(tzinfo=None)
    for use in (utc, lambda moment: BackupId.new(moment, "full"), lambda moment: BackupId(moment, "full", "0" * 6)):
        with pytest.raises(ConfigError):
            use(naive)
    there = NOW.astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert utc(there) == "2026-11-23T03:00:00Z"
    assert BackupId.new(there, "full").created_at == NOW
    with pytest.raises(ConfigError):
        BackupId(there, "full", "3f9a2c")  # its text would be wrong


@given(st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 31), timezones=st.timezones()))  # noqa: DTZ001
def test_a_written_time_is_read_back_to_the_second(moment):
    try:
        expected = moment.astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        return
    if expected.year >= 1000:
        assert parse_utc(utc(moment)) == expected


# --- ids ---


@given(
    st.datetimes(datetime(1000, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.sampled_from(get_args(BackupType)),
)
def test_an_id_is_read_back_as_it_is_spelled(moment, backup_type):
    backup_id = BackupId.new(moment, backup_type)
    assert BackupId.parse(str(backup_id)) == backup_id
    assert backup_of(record_key("shop", backup_id)) == backup_id
    assert backup_of(artifact_key("shop", backup_id, "orders-db", "pgdump.zst.age")) == backup_id


@given(st.lists(st.datetimes(datetime(1000, 1, 1), timezones=st.just(UTC)), max_size=20))  # noqa: DTZ001
def test_ids_sort_by_time_as_values_and_as_text(moments):
    ids = [BackupId.new(moment, "full") for moment in moments]
    assert sorted(map(str, ids)) == list(map(str, sorted(ids)))
    assert [i.created_at for i in sorted(ids)] == sorted(m.replace(microsecond=0) for m in moments)


@pytest.mark.fault("Z01", "Z07", "X02")
def test_ids_of_one_second_differ_and_are_in_the_order_in_which_they_were_made():
    ids = [BackupId.new(NOW, "full") for _ in range(200)]
    assert sorted(set(ids)) == ids


@pytest.mark.parametrize(
    "text",
    [
        *("", "latest", "20261123T030000Z-full", "20261123T030000Z-full-3f9a2", "20261123T030000Z-full-3f9a2cc"),
        *("20261123T030000Z-full-3F9A2C", "20261123t030000z-full-3f9a2c", "20261123T030000Z-all-3f9a2c"),
        *("20261323T030000Z-full-3f9a2c", "20260230T030000Z-full-3f9a2c", "20261123T250000Z-full-3f9a2c"),
        *("20261123T030060Z-full-3f9a2c", "00000101T000000Z-full-3f9a2c", "09991231T000000Z-full-3f9a2c"),
        *("\u0662\u0660261123T030000Z-full-3f9a2c", "20261123T030000Z-full-3f9a2c\n", "../../etc/passwd", "\x1b[2J"),
    ],
    ids=ascii,
)
@pytest.mark.fault("N03", "N04", "N06")
def test_what_is_not_exactly_an_id_is_none(text):
    with pytest.raises(ConfigError, match="not the id") as error:
        BackupId.parse(text)
    assert error.value.message.isprintable()
    assert backup_of(f"shop/{text}.json") is None


@pytest.mark.parametrize("random", ["../../x", "", "3f9a2", "a.json", "3f9a2c\n"])
@pytest.mark.fault("N03")
def test_an_id_cannot_be_made_of_parts_that_are_none(random):
    with pytest.raises(ConfigError):
        BackupId(NOW, "full", random)
    with pytest.raises(ConfigError):
        BackupId(NOW, "full/..", "3f9a2c")  # type: ignore[arg-type]


# --- names and keys ---


@pytest.mark.law(9)
@pytest.mark.fault(*NAME_FAULTS)
@pytest.mark.parametrize("name", BAD_NAMES)
def test_odd_names_are_refused_wherever_a_name_goes_in(name):
    for use in (
        lambda: check_name(name, "app"),
        lambda: record_key(name, ID),
        lambda: artifact_key(name, ID, "db", "sqlite"),
        lambda: artifact_key("shop", ID, name, "sqlite"),
        lambda: check_prefix(f"{name}/"),
    ):
        with pytest.raises(ConfigError) as error:
            use()
        assert error.value.message.isprintable()
        assert len(error.value.message) < 400
    for fields in ({"app": name}, {"artifacts": (artifact().model_copy(update={"source": name}),)}):
        with pytest.raises((ConfigError, ValidationError)):
            BackupRecord.model_validate({**record().model_dump(), **fields})


@pytest.mark.law(9)
@pytest.mark.fault(*NAME_FAULTS, "T22")
@pytest.mark.parametrize("name", BAD_NAMES)
def test_odd_names_are_refused_in_signed_records_and_in_listings(name):
    refused(sealed(lambda document: document.update(app=name)))
    refused(sealed(lambda document: document["artifacts"][0].update(source=name)))
    assert not is_key(f"{name}/{ID}.json")
    assert not is_key(f"/{ID}.json")


@pytest.mark.fault("N03", "N04", "N05")
@pytest.mark.parametrize(
    "extension",
    ["../../x", "a/b", "a\x00", "a\n", "a b", "\u00e9", "x.partial", "x" * 300, "$(id)", "a\\b", "*"],
    ids=ascii,
)
def test_odd_extensions_make_no_key(extension):
    with pytest.raises(ConfigError):
        artifact_key("shop", ID, "db", extension)


@pytest.mark.law(9)
@pytest.mark.fault("N03")
@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "shop",
        "shop/",
        "/shop/x",
        "shop//x",
        "shop/../x",
        "shop/.x",
        "shop/a/b",
        "./shop/x",
        "Shop/x",
        "shop/-x",
    ],
)
def test_keys_have_one_form(key):
    assert not is_key(key)
    with pytest.raises(ConfigError):
        check_key(key)


@pytest.mark.fault("N10")
def test_the_prefix_of_an_app_ends_where_its_name_ends():
    assert check_prefix("shop/") == "shop/"
    assert not record_key("shop-2", ID).startswith(check_prefix("shop/"))
    with pytest.raises(ConfigError):
        check_prefix("shop")


@pytest.mark.fault("N05")
def test_the_longest_names_make_distinct_keys_and_are_never_cut():
    longest = "a" * 63
    key = artifact_key(longest, ID, longest, "pgdump.zst.age")
    assert key == f"{longest}/{ID}.{longest}.pgdump.zst.age"


def test_a_source_that_is_not_there_is_named_with_those_that_are():
    assert record().artifact("uploads").kind == "tar"
    with pytest.raises(ConfigError, match="orders-db, uploads"):
        record().artifact("x\x1b")


def test_the_foreign_objects_of_a_listing_belong_to_no_backup():
    for key in ("shop/notes.txt", "shop/", "shop", f"{ID}.json", f"shop/x{ID}.json", "shop/.json"):
        assert backup_of(key) is None
