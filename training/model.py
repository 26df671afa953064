"""The tokenizer and the model that a run trains: full fine-tuning, LoRA, DoRA or QLoRA, and what saves memory."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Any, cast

import torch
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    prepare_model_for_kbit_training,
    set_peft_model_state_dict,
)
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.distributed.tensor import DTensor
from transformers import AutoTokenizer, BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase

from sentrm.configuration import SentenceRewardConfig
from sentrm.encoding import PLAIN_CHAT_TEMPLATE
from sentrm.errors import SentrmError
from sentrm.loading import DTYPES
from sentrm.modeling import SentenceRewardModel
from sentrm.segmentation import SegmenterSpec

from .config import TrainConfig

HEAD = ("value_head", "aggregator")  # of a SentenceRewardModel: everything that is not the backbone


def prepare_tokenizer(config: TrainConfig) -> PreTrainedTokenizerBase:
    """The backbone's tokenizer with a chat template, `--pad_token` and, for boundary='marker', the marker token.

    Raises:
        SentrmError: if it does not load, or its pad token is its EOS token.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.backbone)
    except (OSError, ValueError) as error:
        raise SentrmError(f"--backbone {config.backbone} does not load: {error}") from error
    if tokenizer.bos_token is None:
        tokenizer.bos_token = tokenizer.cls_token
    if tokenizer.eos_token is None:
        tokenizer.eos_token = tokenizer.sep_token
    if config.pad_token is not None:
        tokenizer.add_special_tokens({"pad_token": config.pad_token})  # grows the vocabulary if the token is new
    if tokenizer.pad_token is not None and tokenizer.pad_token == tokenizer.eos_token:
        raise SentrmError(
            f"the pad token of {config.backbone} is its EOS token, {tokenizer.eos_token!r}; expected another one, so "
            "that the end of a response is never taken for padding. Pass --pad_token '<|pad|>': a token that the "
            "vocabulary does not have is added."
        )
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_CHAT_TEMPLATE
    if config.boundary == "marker":
        tokenizer.add_special_tokens({"additional_special_tokens": [SentenceRewardConfig.marker_token]})
    return tokenizer


def build_model(config: TrainConfig, tokenizer: PreTrainedTokenizerBase) -> SentenceRewardModel | PeftModel:
    """What the Trainer trains: the backbone with a fresh head, its embeddings grown to hold the marker, and with
    `--adapter` a peft model around it in which adapter, head, aggregator and the marker's embedding are trained.

    Raises:
        SentrmError: if the backbone cannot be used, or a package that a flag needs is missing.
    """
    quantised = config.adapter == "qlora"
    loading: dict[str, Any] = {}
    if quantised:
        loading = {"quantization_config": four_bit(), "device_map": {"": config.device}}
    if config.attn_implementation is not None:
        loading["attn_implementation"] = config.attn_implementation
    try:
        model = SentenceRewardModel.from_backbone(
            config.backbone,
            dtype=DTYPES[config.model_dtype],
            dropout=not config.disable_dropout,
            loading=loading,
            positions=config.max_length if config.repeat_positions else None,
            aggregator=config.aggregator,
            boundary=config.boundary,
            max_length=config.max_length,
            segmenter=SegmenterSpec.parse(config.segmenter).to_dict(),
        )
    except SentrmError:
        raise
    except (OSError, ValueError, ImportError) as error:  # no weights, an unknown architecture, no flash attention
        raise SentrmError(f"--backbone {config.backbone} does not load: {error}") from error
    most = getattr(model.config.backbone_config, "max_position_embeddings", config.max_length)
    if config.max_length > most:
        raise SentrmError(
            f"--max_length is {config.max_length}; the backbone has {most} positions. Pass a shorter one, or "
            "--repeat_positions if they are learned."
        )
    if len(tokenizer) > model.backbone.config.vocab_size:
        model.backbone.resize_token_embeddings(len(tokenizer))
    if tokenizer.pad_token_id is not None:
        model.backbone.config.pad_token_id = tokenizer.pad_token_id
    model.config.backbone_config = model.backbone.config
    if config.use_liger_kernel:
        apply_liger_kernel(model.backbone, config.liger_kernel_config)
    if config.adapter == "none":
        return model
    # Where peft and accelerate look; the backbone inside knows it of itself. mypy: nn.Module holds tensors and modules.
    model.is_loaded_in_4bit = quantised  # type: ignore[assignment]
    if quantised:
        prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)  # the Trainer switches it on
    return add_adapter(model, adapter_config(config, model, tokenizer))


def add_adapter(model: SentenceRewardModel, adapter: LoraConfig) -> PeftModel:
    """The model with low-rank matrices beside its backbone's linear layers: LoRA (arXiv 2106.09685), DoRA
    (arXiv 2402.09353) or, on a quantised backbone, QLoRA (arXiv 2305.14314).

    Raises:
        SentrmError: if `--lora_targets` names no layer of the backbone.
    """
    try:
        with warnings.catch_warnings():  # peft 0.21 reads an attribute that transformers 5.23 calls deprecated
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            return cast(PeftModel, get_peft_model(cast(Any, model), adapter))
    except ValueError as error:
        raise SentrmError(f"--lora_targets {adapter.target_modules}: {error}") from error


def adapter_config(config: TrainConfig, model: SentenceRewardModel, tokenizer: PreTrainedTokenizerBase) -> LoraConfig:
    """What is trained beside the adapter, and saved with it: head, aggregator and the marker's row of the embedding."""
    markers = [tokenizer.get_added_vocab()[model.config.marker_token]] if config.boundary == "marker" else None
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        use_dora=config.adapter == "dora",
        target_modules="all-linear" if config.lora_targets in (None, ["all-linear"]) else config.lora_targets,
        exclude_modules=rf"({'|'.join(HEAD)})\b.*",  # "all-linear", or a "query" of BERT's, would reach into them
        modules_to_save=[name for name in HEAD if list(model.get_submodule(name).parameters())],
        trainable_token_indices=markers,
    )


def finished(model: SentenceRewardModel | PeftModel, save_dtype: str) -> SentenceRewardModel:
    """The plain model that a run saves, its backbone in `save_dtype`. An adapter is merged into the backbone on the
    CPU in fp32, so it scores as the trained one did; a quantised backbone is dequantised to bf16 first, which is what
    training computed with. The peft model is taken apart by this: save its adapter before.
    """
    if isinstance(model, PeftModel):
        if model.is_loaded_in_4bit:
            adapter, weights = cast(LoraConfig, model.peft_config["default"]), get_peft_model_state_dict(model)
            plain = cast(SentenceRewardModel, model.unload())
            plain.backbone = plain.backbone.dequantize(torch.bfloat16)
            plain.is_loaded_in_4bit = False  # type: ignore[assignment]  # as above
            model = add_adapter(plain, adapter)
            set_peft_model_state_dict(model, weights)
        model = cast(SentenceRewardModel, model.to("cpu", torch.float32).merge_and_unload())
    model.backbone.to(DTYPES[save_dtype])  # type: ignore[arg-type]  # a decorator hides the signature
    return model


def parameter_groups(
    groups: list[dict[str, Any]], model: nn.Module, head_learning_rate: float | None
) -> list[dict[str, Any]]:
    """An optimizer's groups, each split in two: the backbone's parameters, and those of head and aggregator with a
    learning rate of their own. Weight decay and everything else stays as the group had it.

    Args:
        groups: `param_groups` of an optimizer that has not taken a step.
        model: what is trained; wrappers around the `SentenceRewardModel` do not matter.
        head_learning_rate: None leaves the groups as they are.
    """
    if head_learning_rate is None:
        return groups
    head = {id(one) for name, one in model.named_parameters() if not {*HEAD}.isdisjoint(name.split("."))}
    split = []
    for group in groups:
        ours = [one for one in group["params"] if id(one) in head]
        rest = [one for one in group["params"] if id(one) not in head]
        split += [{**group, "params": rest}, {**group, "params": ours, "lr": head_learning_rate}]
    return [group for group in split if group["params"]]


def activation_offloading(model: nn.Module) -> AbstractContextManager[None]:
    """A context for the forward pass: what autograd saves on the accelerator waits in pinned CPU memory until the
    backward pass, which returns the same gradients. Parameters, and what is too small to be worth it, stay."""
    plain = [one for one in model.parameters() if not isinstance(one, DTensor)]  # a sharded one is not what is saved
    parameters = {one.untyped_storage().data_ptr() for one in plain}

    def pack(saved: Tensor) -> tuple[torch.device, Tensor]:
        if saved.device.type == "cpu" or saved.nbytes < 1024 or saved.untyped_storage().data_ptr() in parameters:
            return saved.device, saved
        waiting = torch.empty_like(saved, device="cpu", pin_memory=True)
        return saved.device, waiting.copy_(saved, non_blocking=True)

    def unpack(packed: tuple[torch.device, Tensor]) -> Tensor:
        device, saved = packed
        return saved.to(device, non_blocking=True)

    return saved_tensors_hooks(pack, unpack)


def four_bit() -> BitsAndBytesConfig:
    """QLoRA's quantisation of the backbone (arXiv 2305.14314, section 3): 4-bit NormalFloat, its constants quantised
    again, arithmetic in bf16.

    Raises:
        SentrmError: if bitsandbytes is missing.
    """
    if find_spec("bitsandbytes") is None:
        raise SentrmError("--adapter qlora needs bitsandbytes: pip install bitsandbytes")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def apply_liger_kernel(backbone: PreTrainedModel, options: dict[str, bool] | None) -> None:
    """Liger's Triton kernels in place of the backbone's own layers. The Trainer asks by the outer model's type,
    "sentence_reward", which Liger does not know.

    Raises:
        SentrmError: if the package is missing or has no kernels for this backbone.
    """
    try:
        from liger_kernel.transformers.monkey_patch import (
            MODEL_TYPE_TO_APPLY_LIGER_FN,
            _apply_liger_kernel_to_instance,
        )
    except ImportError as error:
        raise SentrmError(f"--use_liger_kernel needs Liger ({error}): pip install liger-kernel") from error
    kind = backbone.config.model_type
    if kind not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        known = ", ".join(sorted(MODEL_TYPE_TO_APPLY_LIGER_FN))
        raise SentrmError(f"--use_liger_kernel: Liger has no kernels for {kind!r} backbones, only for {known}.")
    no_language_model = {"cross_entropy": False, "fused_linear_cross_entropy": False}  # would replace forward
    _apply_liger_kernel_to_instance(model=backbone, **(options or {}) | no_language_model)
