"""What an operator reads: two plain lines, harmless and without a secret."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault import errors
from vault.errors import BackupError, Transient, printable, redact

TAXONOMY = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, BackupError) and kind is not BackupError
]


@pytest.mark.parametrize("kind", TAXONOMY, ids=lambda kind: kind.__name__)
def test_an_error_says_what_and_what_next_and_crosses_processes(kind):
    error = kind("the disk is full", "Free some space.")
    for same in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301
        assert (same.message, same.remedy) == ("the disk is full", "Free some space.")
        assert str(same) == "the disk is full\nFree some space."
    assert str(kind("the disk is full")) == "the disk is full"


def test_only_what_may_pass_by_itself_is_retried():
    transient = {kind.__name__ for kind in TAXONOMY if issubclass(kind, Transient)} - {"Transient"}
    assert transient == {"SourceUnavailable", "DestinationUnavailable", "UploadLost", "ReadBackMismatch"}


@pytest.mark.parametrize("kind", TAXONOMY, ids=lambda kind: kind.__name__)
def test_the_tree_is_at_most_two_deep_below_its_root(kind):
    assert len([base for base in kind.__mro__ if issubclass(base, BackupError)]) <= 4


@pytest.mark.law(10)
@pytest.mark.fault("O12")
def test_the_longest_secret_is_removed_first_and_an_empty_one_never():
    assert redact("key hunter2-long and hunter2", ["", "hunter2", "hunter2-long"]) == "key *** and ***"
    assert redact("nothing here", []) == "nothing here"


@pytest.mark.law(10)
@pytest.mark.fault("O12")
@given(st.lists(st.text(min_size=2, alphabet="abc%'\\"), max_size=4), st.text(alphabet="abc%'\\"))
def test_no_secret_is_left_after_redaction(secrets, text):
    redacted = redact(text + "".join(secrets), secrets)
    assert not any(secret in redacted for secret in secrets)


@pytest.mark.fault("N04")
@given(st.text(st.characters()))
def test_a_quoted_text_is_one_harmless_line(text):
    shown = printable(text)
    assert shown.isprintable()
    assert "\n" not in shown


@pytest.mark.fault("N04", "N12")
def test_escapes_and_right_to_left_marks_are_shown_not_obeyed():
    assert printable("a\x1b[31m\u202e\r\n\x00\udce9é") == r"a\x1b[31m\u202e\r\n\x00\udce9é"
    assert printable("{x} %s {{ y }}") == "{x} %s {{ y }}"
