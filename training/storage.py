"""Files that are whole or not there: written aside and renamed, and an error that says so where the disk is full."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from transformers.trainer_utils import get_last_checkpoint

from sentrm.errors import SentrmError

PARTIAL = ".partial"  # in the output folder: what is being written, and what is being deleted
READY = "ready"  # in there: files that are whole, and are being given their places
OLD = "old "  # in there: begins the name of what stood in such a place


def publish(aside: Path, final: Path) -> None:
    """Give what was written aside its own name; a folder that stood there before goes first."""
    if final.is_dir():
        old = final.parent / PARTIAL / f"{OLD}{final.name}"
        shutil.rmtree(old, ignore_errors=True)
        os.rename(final, old)
    os.replace(aside, final)


@contextmanager
def written_aside(output: Path, size: int) -> Iterator[Path]:
    """A new folder to write files into: they replace those of the same name in `output` when the block ends well, and
    are gone when it does not. A run that is killed while they replace them leaves the rest to the next start.

    Args:
        size: about how many bytes they take, for the message where the disk is full.
    """
    aside = output / PARTIAL / "files"
    remove_partial(output)
    with disk_errors("the model's files", output, size):
        aside.mkdir(parents=True)
        yield aside
        os.rename(aside, output / PARTIAL / READY)
        remove_partial(output)


def remove_partial(output: Path) -> None:
    """Give what is whole its place: files that are ready, and a folder that was to be replaced and was not. Delete what
    a killed run left half-written or half-deleted."""
    for one in sorted((output / PARTIAL / READY).glob("*")):
        publish(one, output / one.name)
    for old in (output / PARTIAL).glob(f"{OLD}*"):
        if not (final := output / old.name.removeprefix(OLD)).exists():
            os.rename(old, final)
    shutil.rmtree(output / PARTIAL, ignore_errors=True)


@contextmanager
def disk_errors(what: str, output: Path, size: int) -> Iterator[None]:
    """Remove what a failed write left, and say which write failed, how much it needs and what is whole.

    Raises:
        SentrmError: in place of the OSError, safetensors' or torch.save's own error for a full disk.
    """
    try:
        yield
    except BaseException as error:
        remove_partial(output)
        by_torch = isinstance(error, RuntimeError) and ("inline_container" in str(error) or "iostream" in str(error))
        if not isinstance(error, (OSError, SafetensorError)) and not by_torch:
            raise
        last = get_last_checkpoint(output)
        free = shutil.disk_usage(output).free
        reason = "torch.save failed in the middle of a file" if by_torch else str(error).splitlines()[0]
        raise SentrmError(
            f"cannot write {what} ({reason}): about {size / 1e6:,.1f} MB are needed, "
            f"{free / 1e6:,.1f} MB are free in {output}. Nothing half-written is left"
            + (f", {Path(last).name} is whole: free some space and pass --resume." if last else "; free some space.")
        ) from error
