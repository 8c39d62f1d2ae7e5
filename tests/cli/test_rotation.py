"""An app whose age key is replaced: what was encrypted to the old one still needs it, and says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Command


@pytest.mark.fault("C09")
@pytest.mark.parametrize("saved", [True, False], ids=["through-prefect", "from-a-path"])
def test_after_the_key_was_replaced_each_backup_is_restored_with_its_own_and_names_the_one_that_it_needs(
    command: Command, tmp_path: Path, saved: bool
) -> None:
    name = "rotated" if saved else "rotated-too"
    (tmp_path / "data").mkdir()
    content, disk = tmp_path / "data/a", tmp_path / "disk"
    recipients, keys, ids = {}, {}, {}
    for key in ("old", "new"):
        recipients[key] = command("keys", "generate", "--output", tmp_path / key).out.strip()
        keys[key] = (tmp_path / key).read_text()
    source = ("--app", name, "--source", f"{name}-files={tmp_path / 'data'}", "--to", disk)
    for key, first in (("old", source), ("new", (name,))):
        content.write_text(key)
        ids[key] = command("run", *first, "--encrypt-to", recipients[key], "--json").json["id"]
        (shown,) = command("show", ids[key], "--from", disk, "--json").json["artifacts"]
        assert shown["recipients"] == [recipients[key]], "the record says which key it needs"

    place = () if saved else ("--from", disk)

    def restore(backup: str, identity: str, code: int = 0) -> str:
        target = tmp_path / f"{backup}-{identity}"
        words = ("restore", name, ids[backup], *place, "--to", target, "--identity", tmp_path / identity)
        said = command(*words, code=code).err
        assert target.exists() == (code == 0)
        return (target / "a").read_text() if code == 0 else said

    assert (restore("old", "old"), restore("new", "new")) == ("old", "new")
    for backup, other in (("old", "new"), ("new", "old")):
        said = restore(backup, other, code=1)
        assert f"encrypted to {recipients[backup]}" in said
        assert recipients[other] not in said
        assert "Give the identity" in said
        assert not [line for text in keys.values() for line in text.splitlines()[-1:] if line in said]
    (tmp_path / "both").write_text(keys["new"] + keys["old"])
    assert (restore("old", "both"), restore("new", "both")) == ("old", "new")
    missing = command("restore", name, ids["old"], *place, "--to", tmp_path / "none", code=2).err
    assert recipients["old"] in missing
    assert "--identity FILE" in missing
