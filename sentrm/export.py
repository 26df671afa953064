"""A trained model in a form that opens where sentrm is not installed.

`export_vllm` writes a `*ForTokenClassification` checkpoint: backbone and value head, one number a token, for vLLM's
token-level pooling and for transformers. `export_remote_code` writes the whole model with the code that runs it, for
`AutoModel.from_pretrained(folder, trust_remote_code=True)`. Both write beside the target and rename at the end.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING, MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING
from transformers.utils import cached_file

from .configuration import SentenceRewardConfig
from .encoding import Encoder
from .errors import SentrmError
from .loading import load_model, read_config
from .modeling import SentenceRewardModel

SETTINGS = "sentence_reward.json"  # what a client of the served model has to know

# The score from `values` (v_0..v_N) and `rewards` (Δ_0..Δ_N) alone, as Python; an aggregator that is not here attends
# to hidden states, which a token classifier does not return.
SCORES = {
    "last": "score = values[-1]",
    "mean": "score = values[-1] / len(values)",
    "mean_values": "score = sum(values[1:]) / len(values[1:]) if values[1:] else values[0]",
    "sum_values": "score = sum(values)",
    "min": "score = min(rewards[1:], default=0.0)",
    "softmin": "import math\n\n"
    "weights = [math.exp(min(rewards[1:]) - reward) for reward in rewards[1:]]\n"
    "score = sum(w * reward for w, reward in zip(weights, rewards[1:])) / sum(weights) if weights else 0.0",
}


def export_vllm(name_or_path: str | Path, out: str | Path) -> list[str]:
    """Write the backbone and its value head as a token classifier of one label.

    The folder holds the checkpoint in the dtype it was saved in (the head in fp32, as trained), the tokenizer with
    marker and chat template, `sentence_reward.json`, the model card as MODEL_CARD.md, and a README.md that says how
    values become rewards and a score.

    Args:
        name_or_path: local folder or hub id of a sentence reward model.
        out: a folder that does not exist yet, or is empty.

    Returns:
        What vLLM cannot do with this model, one sentence each; they stand in the README.md too.

    Raises:
        SentrmError: if `out` holds something or cannot be written, or transformers has no such token classifier.
        ModelLoadError: if there is no such model.
        EncodingError: if its tokenizer lacks the marker, a chat template or character offsets.
    """
    with new_folder(Path(out)) as folder:
        model, tokenizer = load_model(name_or_path, read_config(name_or_path))
        classifier, head = token_classifier(model)
        markers = Encoder(tokenizer, model.config).markers
        classifier.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        config = model.config.to_dict()
        settings = {
            "config": {
                name: config[name] for name in SentenceRewardConfig.__annotations__ if name != "backbone_config"
            },
            "marker_token_id": markers[0] if markers else None,
            "score_from_values": model.config.aggregator in SCORES,
        }
        (folder / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n")
        limits = _limits(classifier, head, model.config)
        (folder / "README.md").write_text(_readme(folder.name, classifier, model.config, limits), encoding="utf-8")
        _carry(name_or_path, folder, {"README.md": "MODEL_CARD.md"})
    return limits


def export_remote_code(name_or_path: str | Path, out: str | Path) -> None:
    """Write the model together with the code that runs it, flat in one folder, for a model hub.

    The folder opens with `AutoModel.from_pretrained(out, trust_remote_code=True)` where sentrm is not installed.
    Model card and metrics.json come along; the card gains a section that says how to open the folder.

    Args:
        name_or_path: local folder or hub id of a sentence reward model.
        out: a folder that does not exist yet, or is empty.

    Raises:
        SentrmError: if `out` holds something or cannot be written.
        ModelLoadError: if there is no such model.
    """
    with new_folder(Path(out)) as folder:
        model, tokenizer = load_model(name_or_path, read_config(name_or_path))
        SentenceRewardConfig.register_for_auto_class()
        SentenceRewardModel.register_for_auto_class("AutoModel")
        try:
            model.save_pretrained(folder)
        finally:  # it is a state of the classes, and would have every later save write code too
            SentenceRewardConfig._auto_class = SentenceRewardModel._auto_class = None
        tokenizer.save_pretrained(folder)
        _carry(name_or_path, folder, {"README.md": "README.md", "metrics.json": "metrics.json"})
        card = folder / "README.md"
        before = card.read_text(encoding="utf-8") if card.exists() else f"# {folder.name}\n"
        card.write_text(before + _OPENING.format(name=folder.name), encoding="utf-8")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A new folder that becomes `out` if the block ends well, and vanishes if it does not."""
    out = out.resolve()
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise SentrmError(f"{out} exists already. Choose a new folder, or empty this one first.")
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as aside:
            folder = Path(aside) / out.name
            folder.mkdir()
            yield folder
            folder.replace(out)
    except (OSError, SafetensorError) as error:  # safetensors raises its own where the disk is full
        raise SentrmError(f"cannot write {out}: {error}. Nothing was left there; choose another folder.") from error


@torch.no_grad()
def token_classifier(model: SentenceRewardModel) -> tuple[PreTrainedModel, str]:
    """transformers' token classifier around the same backbone and value head, and the name of its head.

    Nothing is copied. A probe compares its logits with the model's values, so that an architecture whose token
    classifier does more than read the last hidden state is refused.

    Raises:
        SentrmError: if transformers has no token classifier for the backbone, or one that gives other values.
    """
    config = cast(PreTrainedConfig, copy.deepcopy(model.config.backbone_config))
    instead = "Export it with --remote-code, which takes every backbone."
    if type(config) not in MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING:
        raise SentrmError(
            f"transformers has no token classifier for a {config.model_type!r} backbone; "
            f"expected one such as Llama, Qwen3, Mistral, Gemma or GPT-NeoX. {instead}"
        )
    config.id2label, config.label2id = {0: "value"}, {"value": 0}
    config.problem_type = "regression"
    with torch.device("meta"):
        classifier = AutoModelForTokenClassification.from_config(config)
    heads = [name for name, child in classifier.named_children() if isinstance(child, nn.Linear)]
    kind = type(classifier).__name__
    if len(heads) != 1 or classifier.get_submodule(heads[0]).bias is None:
        raise SentrmError(f"{kind} does not end in one linear layer with a bias, as the value head does. {instead}")
    (head,) = heads
    setattr(classifier, classifier.base_model_prefix, model.backbone)
    setattr(classifier, head, model.value_head)
    added = [name for name, parameter in classifier.named_parameters() if parameter.is_meta]
    if added:
        raise SentrmError(f"{kind} has layers that the model was trained without: {', '.join(added)}. {instead}")

    classifier.eval()
    ids = torch.arange(8).unsqueeze(0)  # (1, 8)
    every = torch.ones_like(ids)
    in_fp32 = model.value_head.register_forward_pre_hook(lambda _, states: (states[0].float(),))
    values = model(input_ids=ids, attention_mask=every, boundaries=ids).values
    logits = classifier(input_ids=ids, attention_mask=every).logits.squeeze(-1)
    in_fp32.remove()
    if not torch.allclose(logits, values, atol=1e-5):
        raise SentrmError(f"{kind} gives other values, by {(logits - values).abs().max():.2g}. {instead}")
    return classifier, head


def _carry(name_or_path: str | Path, folder: Path, files: dict[str, str]) -> None:
    """Copy those of the checkpoint's files that exist, under their new names."""
    for name, new_name in files.items():
        try:
            source = Path(str(cached_file(str(name_or_path), name)))
        except OSError:
            continue
        (folder / new_name).write_bytes(source.read_bytes())


def _limits(classifier: PreTrainedModel, head: str, config: SentenceRewardConfig) -> list[str]:
    """What vLLM does not do with this model, as its source says; one sentence each."""
    limits = []
    if config.aggregator not in SCORES:
        limits.append(
            f"The score cannot be computed from the values alone: `{config.aggregator}` weighs the sentences by their "
            "hidden states, which a token classifier does not return. Sentence rewards can. For the score, use sentrm "
            "or the folder that `sentrm export --remote-code` writes."
        )
    if type(classifier.config) in MODEL_FOR_MASKED_LM_MAPPING:
        limits.append(
            f"vLLM runs `{classifier.config.model_type}` as an encoder that attends in both directions, so its values "
            "would be wrong. This folder is right in transformers, which reads `is_decoder`."
        )
    elif head != "score":
        limits.append(
            f"vLLM's conversion reads a head called `score`; {type(classifier).__name__} calls it `{head}`, so a "
            "version without a class of that name will not load this folder. transformers does."
        )
    return limits


_OPENING = """
## Open it without sentrm

The code that runs this model stands in this folder (read it first: `trust_remote_code` runs it).

```python
import torch
from transformers import AutoModel, AutoTokenizer

model = AutoModel.from_pretrained("{name}", trust_remote_code=True).eval()
tokenizer = AutoTokenizer.from_pretrained("{name}", trust_remote_code=True)
```

`model(input_ids, attention_mask, boundaries)` returns score, values, rewards, weights and contributions. `boundaries`
(B, S) holds the token position of the end of the prompt and of each sentence, then -1; `configuration.py` says which
token that is and how sentences are found. With sentrm installed, `sentrm score FILE --model {name}` does all of it.
"""


def _readme(name: str, classifier: PreTrainedModel, config: SentenceRewardConfig, limits: list[str]) -> str:
    """How to serve the folder, what comes back, and how that becomes rewards and a score."""
    if config.boundary == "marker":
        where = (
            f"Boundary 0 is the marker token `{config.marker_token}` placed after the rendered prompt, boundary i the\n"
            "marker after sentence i; the last one stands after the end of the assistant's turn."
        )
    else:
        where = (
            "There are no marker tokens. Boundary 0 is the last token of the rendered prompt, boundary i the last\n"
            "token of sentence i, and the last boundary the last token of all, the end of the turn included."
        )
    return _SERVING.format(
        name=name,
        kind=type(classifier).__name__,
        settings=SETTINGS,
        dtype=str(classifier.dtype).removeprefix("torch."),
        max_length=config.max_length,
        limits="".join(f"\n- {limit}" for limit in limits) + "\n" * bool(limits),
        where=where,
        aggregator=config.aggregator,
        score="\n" + SCORES[config.aggregator] if config.aggregator in SCORES else "",
        computable=", ".join(f"`{one}`" for one in SCORES),
    )


_SERVING = """# {name}

A sentence-level reward model as `{kind}` with one label: its logit at a token is the value head
read there. Written by `sentrm export --vllm`. `{settings}` holds what else a client needs to know:
aggregator, boundary mode, marker token, segmenter and length. The model's own card, if it had one, is MODEL_CARD.md.

## Serve it

```sh
vllm serve {name} --runner pooling --convert classify --dtype {dtype} --max-model-len {max_length}
```

The server returns one number for every token it is sent, in order (`POST /pooling`, task `token_classify`). Unless
`use_activation` is false, vLLM puts it through a sigmoid; everything below wants the logits without it. Only the
numbers at boundaries mean something: the head was trained nowhere else. Send token ids, not text or messages: what the
server renders itself has no boundaries in it. vLLM computes the head in fp32, as it was trained; transformers casts it
with the rest, so open the folder with `dtype=torch.float32` there to get the same values.
{limits}
## Where the boundaries are

{where}
Sentences are those of the segmenter in `{settings}`: with another, values are not what the model was
trained to give. The response is tokenised as one text, special tokens in it as plain text; a token belongs to the
sentence in which its last character stands. sentrm on the client's side does it (the weights stay on the server):

```python
import json
from pathlib import Path

from transformers import AutoTokenizer

from sentrm.configuration import SentenceRewardConfig
from sentrm.encoding import Encoder
from sentrm.segmentation import SegmenterSpec, load_segmenter

folder = Path("{name}")
config = SentenceRewardConfig(**json.loads((folder / "{settings}").read_text())["config"])
encoder = Encoder(AutoTokenizer.from_pretrained(folder), config)
segmenter = load_segmenter(SegmenterSpec.from_dict(config.segmenter), encoder.tokenizer)

prompt, response = "How do I boil an egg?", "Boil it for nine minutes. Then peel it."
encoded = encoder.encode(prompt, response, segmenter.spans([response])[0])
```

## Ask

```python
from urllib.request import Request, urlopen

body = {{"model": "{name}", "input": encoded.ids, "task": "token_classify", "use_activation": False}}
request = Request("http://localhost:8000/pooling", json.dumps(body).encode(), {{"Content-Type": "application/json"}})
logits = json.load(urlopen(request))["data"][0]["data"]  # [number] for each token
```

## Rewards and score

`values[i]` is read at boundary i; `rewards[0]` is the prompt's term, `rewards[i]` what sentence i added.

```python
values = [logits[position][0] for position in encoded.boundaries]
rewards = [value - before for value, before in zip(values, [0.0, *values])]{score}
```

This model's aggregator is `{aggregator}`. Values alone decide the score of {computable};
`attention` and `attention_without_prompt` weigh sentences by their hidden states, which do not come back.
"""
