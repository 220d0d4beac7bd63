"""One experiment as dataclasses. Building one checks every value; `validated` checks again after overrides."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from clinicalbert_jax.errors import UserError, redacted

ATTENTIONS = ("auto", "xla", "cudnn", "splash", "pallas")  # see `attention`
VOCABULARY_MULTIPLE = 128  # the embedding table is padded to the matrix units' width; export removes the padding


def require(holds: bool, name: str, expected: str, found: object) -> None:
    """Raise `UserError` naming the field `config.<name>` unless the condition holds."""
    if not holds:
        raise UserError(f"config.{name}: expected {expected}, found {found!r}")


def require_types(section: str, config: Any) -> None:
    """Refuse a value of another type than its field's: an override can set anything."""
    for entry in dataclasses.fields(config):
        value, expected = getattr(config, entry.name), entry.type
        if expected is float and type(value) is int:
            continue
        if isinstance(expected, type) and type(value) is not expected:
            name = f"{section}.{entry.name}" if section else entry.name
            require(False, name, f"a value of type {expected.__name__}", value)


@dataclass
class ModelConfig:
    """The shape of a BERT, by the names of Devlin et al. (2019) and of Hugging Face's `config.json`."""

    vocab_size: int = 0  # 0: the size of the data's vocabulary
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    hidden_act: str = "gelu"  # the exact one, of the error function; 'gelu_new' and 'gelu_pytorch_tanh' approximate
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        require_types("model", self)
        require(self.vocab_size >= 0, "model.vocab_size", "0 (take the data's) or more", self.vocab_size)
        for name in (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
        ):
            require(getattr(self, name) >= 1, f"model.{name}", "at least 1", getattr(self, name))
        require(
            self.hidden_size % self.num_attention_heads == 0,
            "model.num_attention_heads",
            f"a divisor of hidden_size={self.hidden_size}",
            self.num_attention_heads,
        )
        activations = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")
        require(self.hidden_act in activations, "model.hidden_act", f"one of {activations}", self.hidden_act)
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            require(0 <= getattr(self, name) < 1, f"model.{name}", "a value in [0, 1)", getattr(self, name))
        for name in ("layer_norm_eps", "initializer_range"):
            require(getattr(self, name) > 0, f"model.{name}", "a positive value", getattr(self, name))

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding table: `vocab_size` rounded up. Logits of the rows added are never predicted."""
        return math.ceil(self.vocab_size / VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


def model_preset(size: str, **overrides: Any) -> ModelConfig:
    """BERT by size: 'tiny' to 'medium' after Turc et al. (2019), 'base' and 'large' after Devlin et al. (2019)."""
    layers_and_width = {
        "tiny": (2, 128),
        "mini": (4, 256),
        "small": (4, 512),
        "medium": (8, 512),
        "base": (12, 768),
        "large": (24, 1024),
    }
    require(size in layers_and_width, "model", f"a size among {tuple(layers_and_width)}", size)
    layers, width = layers_and_width[size]
    return ModelConfig(
        **{
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": width // 64,
            "intermediate_size": 4 * width,
        }
        | overrides
    )


@dataclass
class DataConfig:
    """What the data must be, checked against its manifest before anything is compiled."""

    max_seq_length: int = 128
    do_lower_case: bool | None = None  # None: as the data's vocabulary says
    num_threads: int = 1  # that decode batches ahead of the step
    on_corrupt: str = "stop"  # at a record that fails its checksum; 'skip': its row gets no weight, and is counted

    def __post_init__(self) -> None:
        require_types("data", self)
        require(self.max_seq_length >= 8, "data.max_seq_length", "at least 8", self.max_seq_length)
        require(self.num_threads >= 1, "data.num_threads", "at least 1", self.num_threads)
        require(self.on_corrupt in ("stop", "skip"), "data.on_corrupt", "'stop' or 'skip'", self.on_corrupt)


@dataclass
class OptimizerConfig:
    """An optimizer with BERT's decay mask: none on biases and layer norms."""

    name: str = "adamw"  # or 'bert_adam', 'lamb': see `optimizer.make_optimizer`
    learning_rate: float = 1e-4
    schedule: str = "google"  # or 'linear', 'sqrt', 'constant': see `optimizer.make_schedule`
    warmup_steps: int = 10_000
    cooldown_steps: int = 0  # the last ones, over which 'constant' falls to 0
    weight_decay: float = 0.01
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-6
    clip_global_norm: float = 1.0

    def __post_init__(self) -> None:
        require_types("optimizer", self)
        require(self.learning_rate > 0, "optimizer.learning_rate", "a positive value", self.learning_rate)
        names = ("adamw", "bert_adam", "lamb")
        require(self.name in names, "optimizer.name", f"one of {names}", self.name)
        schedules = ("google", "linear", "sqrt", "constant")
        require(self.schedule in schedules, "optimizer.schedule", f"one of {schedules}", self.schedule)
        require(self.warmup_steps >= 0, "optimizer.warmup_steps", "0 or more", self.warmup_steps)
        require(self.cooldown_steps >= 0, "optimizer.cooldown_steps", "0 or more", self.cooldown_steps)
        require(
            self.cooldown_steps == 0 or self.schedule == "constant",
            "optimizer.cooldown_steps",
            f"0 with schedule={self.schedule!r}, which falls by itself",
            self.cooldown_steps,
        )
        require(self.weight_decay >= 0, "optimizer.weight_decay", "0 or more", self.weight_decay)
        require(0 <= self.b1 < 1, "optimizer.b1", "a value in [0, 1)", self.b1)
        require(0 <= self.b2 < 1, "optimizer.b2", "a value in [0, 1)", self.b2)
        require(self.eps > 0, "optimizer.eps", "a positive value", self.eps)
        require(self.clip_global_norm > 0, "optimizer.clip_global_norm", "positive", self.clip_global_norm)


@dataclass
class MeshConfig:
    """How the devices are used: `data` copies of the model, each sharded over `fsdp` devices. -1: all that are left."""

    data: int = -1
    fsdp: int = 1

    def __post_init__(self) -> None:
        require_types("mesh", self)
        require(self.data == -1 or self.data >= 1, "mesh.data", "-1 or at least 1", self.data)
        require(self.fsdp >= 1, "mesh.fsdp", "at least 1", self.fsdp)


@dataclass
class TrainConfig:
    """The run. `global_batch_size` rows make one update, over all devices and microbatches."""

    steps: int = 100_000
    global_batch_size: int = 256
    microbatches: int = 1  # the batch is split into so many, whose gradients are added before the update
    seed: int = 0
    dtype: str = "bfloat16"  # of activations; parameters and optimizer state stay float32
    attention: str = "auto"  # the best that runs on the devices; or by name: see `attention`
    remat: bool = False  # recompute most activations instead of keeping them: less memory, more time
    log_every: int = 50
    eval_every: int = 1_000  # 0: no validation, which a dataset without validation examples needs
    eval_batches: int = 0  # 0: the whole validation split
    checkpoint_every: int = 1_000
    keep_checkpoints: int = 3  # the latest; besides, the best by validation loss and one every so many hours
    keep_best: int = 1
    keep_every_hours: float = 0.0  # 0: none
    max_skips: int = 10  # steps in a row without a finite gradient, after which the run rolls back to a checkpoint
    max_returns: int = 3  # rollbacks after which the run stops

    def __post_init__(self) -> None:
        require_types("train", self)
        for name in (
            "steps",
            "global_batch_size",
            "microbatches",
            "log_every",
            "checkpoint_every",
            "keep_checkpoints",
            "max_skips",
        ):
            require(getattr(self, name) >= 1, f"train.{name}", "at least 1", getattr(self, name))
        for name in ("eval_every", "keep_best", "keep_every_hours", "max_returns"):
            require(getattr(self, name) >= 0, f"train.{name}", "0 or more", getattr(self, name))
        require(self.eval_batches >= 0, "train.eval_batches", "0 (all) or more", self.eval_batches)
        require(0 <= self.seed < 2**31, "train.seed", "a value in [0, 2^31)", self.seed)
        require(
            self.global_batch_size % self.microbatches == 0,
            "train.microbatches",
            f"a divisor of global_batch_size={self.global_batch_size}",
            self.microbatches,
        )
        dtypes = ("float32", "bfloat16")
        require(self.dtype in dtypes, "train.dtype", f"one of {dtypes}", self.dtype)
        require(self.attention in ATTENTIONS, "train.attention", f"one of {ATTENTIONS}", self.attention)


@dataclass
class Config:
    """One pre-training experiment, as `configs/*.py` return it.

    `init_from`: the directory of a BERT, its hf://NAME on the hub, or another run's directory, to start from; its
    architecture replaces `model`'s. Empty: random weights. `init_optimizer`: take the moments of that run's optimizer
    as well; the schedule starts at step 0. `allow_other_splits`: start from a model whose training data were split by
    another key or other fractions, so that it may have seen held-out patients of these data. `profile`: trace steps 10
    to 15 after the start into WORKDIR/profile, for XProf.
    """

    init_from: str = ""
    init_optimizer: bool = False
    allow_other_splits: bool = False
    profile: bool = False
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        require_types("", self)
        if redacted(self.init_from) != self.init_from:
            raise UserError("config.init_from: expected a URL without credentials, which the run would record")
        require(
            not self.init_optimizer or bool(self.init_from),
            "init_optimizer",
            "a run to take it from in init_from",
            True,
        )
        require(
            self.data.max_seq_length <= self.model.max_position_embeddings,
            "data.max_seq_length",
            f"at most model.max_position_embeddings={self.model.max_position_embeddings}",
            self.data.max_seq_length,
        )
        if self.optimizer.schedule != "constant" or self.optimizer.cooldown_steps:
            require(
                self.optimizer.warmup_steps + self.optimizer.cooldown_steps < self.train.steps,
                "optimizer.warmup_steps",
                f"with cooldown_steps fewer than train.steps={self.train.steps}",
                self.optimizer.warmup_steps,
            )


def validated(config: Any) -> Any:
    """The config, rebuilt from its present values, so that values set after construction are checked too."""
    values = {entry.name: getattr(config, entry.name) for entry in dataclasses.fields(config)}
    return type(config)(**{k: validated(v) if dataclasses.is_dataclass(v) else v for k, v in values.items()})
