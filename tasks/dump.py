"""Dump: read the source once, encode it, write it to the spool."""

from __future__ import annotations

from prefect import task

from tasks.policy import ONCE
from tasks.run import Transfer
from vault.codec import Encoded, encode
from vault.milestone import milestone


def dump_source(transfer: Transfer) -> Encoded:
    """The spool ends whole only after the source's own proof: readers never see the end of a bad dump."""
    run = transfer.run
    try:
        with transfer.timed("dump"), run.sources[transfer.source].dump() as source_dump:
            transfer.dump = source_dump
            run.begun = True
            milestone("dump:begun")
            before = run.progress.now.done
            encoded = encode(
                source_dump.stream,
                run.codec,
                transfer.spool.write,
                progress=lambda size: run.progress.reach(before + size),
            )
            milestone("dump:read")
        milestone("dump:proven")
        transfer.encoded = encoded
        transfer.spool.close()
    except BaseException as error:
        transfer.spool.abort(error)
        raise
    return encoded


@task(name="dump", task_run_name="dump {transfer.source}", **ONCE)
def dump(transfer: Transfer) -> Encoded:
    """A failed dump is not retried here: another try needs a new spool and new uploads, which the flow makes."""
    return dump_source(transfer)
