"""Dump: read the source once, encode it, write it to the spool."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial

from prefect import task

from blocks.sources.base import Source
from tasks.log import logging_tools
from tasks.policy import ONCE
from tasks.run import Transfer
from vault.codec import Encoded, encode
from vault.errors import SourceError, SpoolError, Transient
from vault.log import about
from vault.milestone import milestone
from vault.record import Reading


def dump_source(transfer: Transfer) -> Encoded:
    """The spool ends whole only after the source's own proof: readers never see the end of a bad dump."""
    run, source = transfer.run, transfer.source
    door = run.sources[source]
    try:
        with about(source=source), logging_tools(), _turn(transfer, door):
            run.progress.stage(f"dump {source}", source)
            began = run.progress.now.seconds
            encoded = _read(transfer, door)
        milestone("dump:proven")
        transfer.encoded = encoded
        transfer.read = Reading(began=round(began, 3), ended=round(run.progress.now.seconds, 3))
        transfer.spool.close()
        run.places.was_read(source)
        transfer.when_read()
        if not run.reads[source].done():  # else it was read before, and what was sent of it got lost
            run.reads[source].set_result(None)
    except BaseException as error:
        transfer.spool.abort(error)
        lasting = isinstance(error, SourceError) and not isinstance(error, Transient)
        if lasting and not run.reads[source].done():
            run.reads[source].set_exception(error)  # nobody has to wait until the uploads have noticed
        raise
    return encoded


def _turn(transfer: Transfer, source: Source) -> AbstractContextManager[None]:
    """The right to read *source*: the stage says when it has to be waited for, which ends when the run does."""
    run, name = transfer.run, transfer.source

    def waiting() -> None:
        run.progress.stage(f"waiting for its turn at {source.server.location} to dump {name}", name)
        milestone("turn:waiting")

    def pause(seconds: float) -> None:
        if run.stopping.wait(seconds):
            raise SpoolError(f"{name} was not read: the run ends")

    return run.places.reading(name, source, waiting, pause)


def _read(transfer: Transfer, source: Source) -> Encoded:
    run = transfer.run
    if run.is_urgent(transfer.source):
        source = source.hurried()
    with transfer.timed("dump"), source.dump() as source_dump:
        transfer.dump = source_dump
        run.begun = True
        milestone("dump:begun")
        encoded = encode(
            source_dump.stream,
            run.codec,
            transfer.spool.write,
            threads=run.limits.threads,
            block=run.limits.block,
            progress=partial(run.progress.reach, transfer.source),
        )
        milestone("dump:read")
    return encoded


@task(name="dump", task_run_name="dump {transfer.source}", **ONCE)
def dump(transfer: Transfer) -> Encoded:
    """A failed dump is not retried here: another try needs a new spool and new uploads, which the flow makes."""
    return dump_source(transfer)
