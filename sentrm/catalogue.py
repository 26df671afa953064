"""The models that a running app offers: found at the start, opened when asked for, refused before they do harm."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock

import psutil
import torch
from huggingface_hub import get_safetensors_metadata
from huggingface_hub.errors import HFValidationError, HTTPError, NotASafetensorsRepoError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError, safe_open
from transformers.utils import CONFIG_NAME, cached_file

from .errors import ModelLoadError
from .loading import DTYPES, read_device, read_scorable
from .scoring import Scorer

KEPT = 2  # models in memory: the first, which the app's pages hold anyway, and the other one of a comparison
_HEADROOM = 1.2  # memory a model takes while it reads, as a multiple of its weights
_WIDTHS = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2}  # bytes of one weight, by safetensors' name of its dtype


class Catalogue:
    """Names of models, and the scorers of two: of the first, once opened, and of the one opened last.

    Args:
        folders: each a checkpoint, or a folder of checkpoints.
        bundled: folder or hub id of the model that the app starts with; the first name.
        allow_hub: whether `open` takes hub ids.
        segmenter, device, dtype, max_length: as `Scorer.from_pretrained` takes them.

    Raises:
        ModelLoadError: for a folder that does not exist or holds no checkpoint.
    """

    def __init__(
        self,
        folders: Iterable[str | Path],
        bundled: str | Path,
        allow_hub: bool = False,
        *,
        segmenter: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        max_length: int | None = None,
    ):
        self.allow_hub = allow_hub
        self.segmenter, self.device, self.dtype, self.max_length = segmenter, device, dtype, max_length
        self._places: dict[str, str] = {}  # by name: folder, or the hub id of the bundled one
        for place in (str(bundled), *(str(found) for folder in folders for found in _checkpoints(Path(folder)))):
            name = Path(place).resolve().name if Path(place).is_dir() else place
            if _resolved(place) not in map(_resolved, self._places.values()):
                self._places[place if name in self._places else name] = place  # two of one name: by the whole path
        self._open: OrderedDict[str, Scorer] = OrderedDict()  # least recently asked for first
        self._lock = Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """What is offered, the bundled model first."""
        return tuple(self._places)

    def open(self, name: str) -> Scorer:
        """The scorer of a name, or, where that is allowed, of a hub id; a second caller waits for the first.

        Raises:
            ModelLoadError: for any other name, before loading for what is no reward model or does not fit into free
                memory, and for what does not load. What is open stays so, but for the one least recently asked for
                that is not the first of `names`.
        """
        with self._lock:
            if name not in self._open:
                place = self._place(name)
                read_scorable(place)
                while len(self._open) >= KEPT:  # its memory may be needed
                    del self._open[next(one for one in self._open if one != self.names[0])]
                self._check_memory(place)
                self._open[name] = Scorer.from_pretrained(
                    place, segmenter=self.segmenter, device=self.device, dtype=self.dtype, max_length=self.max_length
                )
            self._open.move_to_end(name)
            return self._open[name]

    def _place(self, name: str) -> str:
        """Where a name leads: nowhere but to what is offered, whatever path it spells."""
        if name in self._places:
            return self._places[name]
        if not self.allow_hub:
            raise ModelLoadError(f"got {name!r}; expected one of {', '.join(self.names)}. Add folders with --models.")
        try:
            validate_repo_id(name)
        except HFValidationError as error:
            raise ModelLoadError(f"got {name!r}; expected one of {', '.join(self.names)}, or a hub id.") from error
        if Path(name).exists():
            raise ModelLoadError(f"{name!r} is a folder here; expected a hub id. Offer folders with --models.")
        return name

    def _check_memory(self, place: str) -> None:
        device = read_device(self.device)
        width = None  # as saved
        if (self.dtype, device.type) == ("auto", "cpu"):
            width = 4
        elif self.dtype in DTYPES:
            width = DTYPES[self.dtype].itemsize
        needed = sum(count * (width or saved) for count, saved in _weights(place)) * _HEADROOM
        free = {"main memory": psutil.virtual_memory().available}
        if device.type == "cuda":
            cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            free["GPU memory"] = torch.cuda.mem_get_info(device)[0] + cached
        for memory, available in free.items():
            if needed > available:
                raise ModelLoadError(
                    f"{place} takes about {needed / 2**30:.1f} GiB of {memory}, and {available / 2**30:.1f} GiB are "
                    "free. Choose a smaller model, or start with --dtype bfloat16."
                )


def _resolved(place: str) -> str:
    """One spelling of a folder; a hub id as it is."""
    return str(Path(place).resolve()) if Path(place).is_dir() else place


def _checkpoints(folder: Path) -> Sequence[Path]:
    """The folder itself if it is a checkpoint, else those of its folders that are, by name."""
    if (folder / CONFIG_NAME).is_file():
        return [folder]
    found = sorted(file.parent for file in folder.glob(f"*/{CONFIG_NAME}"))
    if not found:
        state = "holds no checkpoint" if folder.is_dir() else "is no folder"
        raise ModelLoadError(
            f"--models {folder} {state}; expected a folder with a {CONFIG_NAME}, or one of such folders."
        )
    return found


def _weights(place: str) -> list[tuple[int, int]]:
    """(weights, bytes of one as saved), read from the headers of the safetensors files alone: those of the folder, or
    of a hub id those that were downloaded before, else those on the hub."""
    tensors: list[tuple[int, int]] = []
    try:
        files = list(Path(str(cached_file(place, CONFIG_NAME))).parent.glob("*.safetensors"))
        if not files and not Path(place).is_dir():
            counts = get_safetensors_metadata(place).parameter_count
            return [(count, _WIDTHS.get(kind, 1)) for kind, count in counts.items()]
        for file in files:
            with safe_open(file, framework="pt") as header:
                slices = [header.get_slice(name) for name in header.keys()]  # noqa: SIM118  (no dict)
                tensors += [(math.prod(one.get_shape()), _WIDTHS.get(one.get_dtype(), 1)) for one in slices]
    except (OSError, SafetensorError, HTTPError, NotASafetensorsRepoError) as error:
        raise ModelLoadError(f"the size of {place} cannot be read: {error}") from error
    if not tensors:
        raise ModelLoadError(
            f"{place} holds no *.safetensors; expected weights in that format, a pickle is not opened."
        )
    return tensors
