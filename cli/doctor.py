"""``backups doctor``: what is wrong with this installation, and what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from cli.api import POOL, prefect_api, server_known
from cli.home import prefect_database
from cli.output import note, show_json
from cli.saved import Flag
from vault.errors import BackupError, printable

if TYPE_CHECKING:
    from deployments.checks.finding import Finding


def doctor(*, offline: Annotated[bool, Flag] = False, json: Annotated[bool, Flag] = False) -> int:
    """Look at all of this installation, and say of each thing whether it is as it should be, and what to do.

    Example: backups doctor

    It ends with 1 when something is wrong: backups are not made, or nobody hears of failures, or somebody reads what
    he must not. Each destination is written to and read from, and nothing stays there.

    Parameters
    ----------
    offline
        Do not reach for any source or destination.
    json
        Print one JSON array.
    """
    found = _look(offline)
    if json:
        show_json([finding.as_json() for finding in found])
    else:
        _tell(found)
    return int(any(finding.level == "wrong" for finding in found))


def _look(offline: bool) -> list[Finding]:
    served = server_known()
    try:
        with prefect_api():
            from deployments.checks.examine import examine

            more = {"key of blocks": _key_of_blocks, "signing key": _signing_key}
            found = examine(POOL, served, offline, more)
    except BackupError as error:
        from deployments.checks.finding import wrong

        found = [wrong("server", error.message, error.remedy)]
    from deployments.checks import machine
    from deployments.checks.finding import run

    return found + run({"work directory": machine.work_directory, "packages": machine.packages})


def _tell(found: list[Finding]) -> None:
    width = max(len(finding.check) for finding in found)
    for finding in found:
        level = finding.level if finding.level in ("ok", "skipped") else finding.level.upper()
        print(f"{level:<8} {finding.check:<{width}}  {printable(finding.what)}")
        for line in finding.remedy.splitlines():
            print(f"{'':<8} {'':<{width}}  -> {printable(line)}")
    count = Counter(finding.level for finding in found)
    note(f"{count['wrong']} wrong, {count['warning']} warnings, {count['ok']} ok.")


def _key_of_blocks() -> Iterator[Finding]:
    """The key of all credentials does not lie beside them, in Prefect's own database."""
    from prefect.client.orchestration import get_client

    from cli.encryption_key import advice
    from cli.reencrypt_sqlite import SqliteFile
    from deployments.checks.finding import ok, skipped, warning
    from vault.address import is_loopback

    name, database = "key of blocks", prefect_database()
    with get_client(sync_client=True) as client:
        host = str(client.api_url.host)
    if not is_loopback(host):
        yield skipped(name, f"to be seen at {host} only: run `backups doctor` there")
        return
    if database is None:
        said = advice()
        remedy = "backups keys rotate --new-key-file FILE (while no server runs), and what it says then"
        yield warning(name, said, remedy) if said else ok(name, "outside of their database")
        return
    held = SqliteFile(database).contents()
    beside = held.own_key is not None and len(held.unreadable(held.own_key)) < len(held.blocks)
    if beside:
        yield warning(
            name,
            f"it lies in {database}, beside what it encrypts: who reads that file reads all credentials",
            "backups keys rotate (while no server runs)",
        )
    else:
        yield ok(name, "outside of their database")


def _signing_key() -> Iterator[Finding]:
    """Its id was shown to a person, who needs it where this machine is lost."""
    from blocks.loading import load, missing
    from blocks.signing_key import DOCUMENT, SigningKey
    from cli.keys import shown_file
    from deployments.checks.finding import ok, warning
    from vault.signing import key_id

    ref = f"{SigningKey.get_block_type_slug()}/{DOCUMENT}"
    if missing(ref):
        yield ok("signing key", "made by the first backup")
        return
    own = key_id(load(ref, SigningKey).keyring().signer.public_key)
    shown = shown_file().read_text().strip() if shown_file().exists() else ""
    if shown == own:
        yield ok("signing key", f"{own}, which was shown here")
    else:
        yield warning(
            "signing key",
            "its id was never shown here: when this machine is lost, another one asks for it",
            "backups keys show, and note it down elsewhere",
        )
