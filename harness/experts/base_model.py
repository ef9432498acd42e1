"""Structure of a base model from its config and file headers; weights are neither read nor allocated."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.experts.environment import environment_problem
from harness.experts.files import FLOATS, open_file, weight_files
from utilities.bounded_input import read_json
from utilities.errors import UserError, first_line

__all__ = ["BaseModel", "Shapes", "base_shapes", "differing_field", "read_base", "why_not_foldable"]

Shapes = Mapping[str, tuple[int, ...]]

OLD_BUFFERS = (
    r"rotary_emb\.inv_freq$",
    r"(^|\.)position_ids$",
    r"\.attn\.(masked_)?bias$",
    r"\.attention\.(masked_)?bias$",
)

MOST_MODULES = 100_000
"""Maximum of layers times experts of a base model."""

SCALES = re.compile(
    r"(^|[._])(weight_scale(_inv)?|scales?|qweight|qzeros|g_idx|SCB|absmax|quant_map|nested_absmax|quant_state.*|weight_packed)$"
)
"""Names of scale and packing tensors, which only quantised models have."""

BIDIRECTIONAL = {"cpmant", "prophetnet"}
"""Model types among the causal ones of transformers whose attention sees later tokens whatever the config says."""

SAYS_NOTHING = re.compile(
    r"^_|_token_id$|dropout|^(architectures|auto_map|dtype|torch_dtype|transformers_version|use_cache|initializer_\w+|"
    r"id2label|label2id|problem_type|return_dict|output_\w+|gradient_checkpointing|chunk_size_feed_forward|pretraining_tp|"
    r"router_aux_loss_coef|task_specific_params|finetuning_task|is_encoder_decoder|max_window_layers)$"
)
"""Config fields that do not change a text-only forward pass, or that the base model's files determine."""


def why_not_foldable(module: nn.Module, name: str) -> str | None:
    """Reason why W + s BA cannot be written into a module's weight, as a clause; None if it can."""
    from transformers.pytorch_utils import Conv1D

    weight = getattr(module, "weight", None)
    if not isinstance(module, nn.Linear | Conv1D):
        return f"{name} is a {type(module).__name__}, not a linear layer"
    if type(module).forward not in (nn.Linear.forward, Conv1D.forward) and not _multiplies(module):
        return f"{name} is a {type(module).__name__}, which does more than multiply by its weight"
    if not isinstance(weight, torch.Tensor) or not weight.is_floating_point() or weight.dtype.itemsize < 2:
        return f"{name} holds no plain numbers but codes ({getattr(weight, 'dtype', 'no weight')})"
    return None


def _multiplies(module: Any) -> bool:
    """Whether a custom linear layer computes the same as `nn.Linear`, tested on random numbers."""
    layer = deepcopy(module).to_empty(device="cpu").float()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
        x = torch.randn(2, layer.weight.shape[1])
        try:
            return torch.allclose(layer(x), nn.functional.linear(x, layer.weight, layer.bias), rtol=1e-3, atol=1e-3)
        except Exception:  # any error of a custom class
            return False


def why_not_causal(model: Any) -> str | None:
    """Reason why a model's attention sees later tokens, as a clause; None if config and class do not show it."""
    config, kind = model.config, type(model)
    if getattr(config, "is_decoder", None) is False:
        causal = {module.is_causal for module in model.modules() if hasattr(module, "is_causal")}
        if causal == {False} or re.search(r"if not (self\.)?config\.is_decoder", inspect.getsource(kind)):
            return "is_decoder of config.json is false"
    for name, value in (("attn_type", "bi"), ("causal", False)):
        if getattr(config, name, None) == value:
            return f"{name} of config.json is {value}"
    return f"{kind.__name__} is built so" if config.model_type in BIDIRECTIONAL else None


class BaseModel:
    """A causal language model on the meta device, and its config.

    Args:
        folder: Folder of the model.
        trust_remote_code: Whether Python code in the folder may run to create the model.

    Raises:
        UserError: The folder holds no causal language model that transformers can make.
    """

    def __init__(self, folder: Path, *, trust_remote_code: bool = False) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM

        self.folder, self.trusted = folder, trust_remote_code
        _check_raw_config(folder)
        try:
            self.config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
            _check_counts(folder, self.config.to_dict())
            with torch.device("meta"):
                self.model: Any = AutoModelForCausalLM.from_config(
                    deepcopy(self.config), trust_remote_code=trust_remote_code
                )
        except UserError:
            raise
        except Exception as error:  # any error of the config or model class
            first = first_line(error)
            if "Could not import module" in first and (problem := environment_problem()) is not None:
                raise UserError(problem) from error
            if not trust_remote_code and "custom code" in first:
                first = "it brings Python code of its own; with --trust-remote-code that code is run here"
            raise UserError(f"{folder}: not a causal language model that can be loaded: {first}") from error
        if (cause := why_not_causal(self.model)) is not None:
            raise UserError(f"{folder}: not a causal language model: its attention sees later tokens, because {cause}")
        self.text = self.config.get_text_config()
        parameters = dict(self.model.named_parameters(remove_duplicate=False))
        self.shapes: Shapes = {name: tuple(p.shape) for name, p in parameters.items()}
        self.state: dict[str, torch.Tensor] = self.model.state_dict()

    def tensor(self, name: str) -> torch.Tensor | None:
        """The weights of one parameter, read from the files; None if the files need conversion."""
        files = {key: file for path in weight_files(self.folder) for file in [open_file(path)] for key in file.keys()}  # noqa: SIM118
        located, _ = self.locate(files)
        ((key, pattern), *more) = located.get(name) or located.get(self.tied.get(name, "")) or [("", "")]
        return files[key].get_tensor(key) if pattern is None and not more else None

    def ignores(self, key: str) -> bool:
        """Whether transformers ignores a tensor unknown to the model, such as a buffer of an earlier release."""
        patterns = [*(getattr(self.model, "_keys_to_ignore_on_load_unexpected", None) or ()), *OLD_BUFFERS]
        return any(re.search(pattern, key) for pattern in patterns)

    @property
    def quantisation(self) -> str | None:
        """The quantisation method of the weights; None if they are not quantised."""
        config = getattr(self.config, "quantization_config", None)
        if config is None:
            return None
        fields = config if isinstance(config, dict) else config.to_dict()
        return str(fields.get("quant_method") or "an unknown method")

    @cached_property
    def tied(self) -> Mapping[str, str]:
        """Tied parameters: name to the name of the parameter with the same tensor."""
        return dict(getattr(self.model, "all_tied_weights_keys", None) or {})

    @cached_property
    def _conversions(self) -> tuple[list[Any], list[Any]]:
        """Renamings and converters that transformers applies to a file's tensors when it loads this model."""
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter

        every = get_model_conversion_mapping(self.model)
        converters = [one for one in every if isinstance(one, WeightConverter)]
        return [one for one in every if not isinstance(one, WeightConverter)], converters

    def locate(self, keys: Iterable[str]) -> tuple[dict[str, list[tuple[str, str | None]]], list[str]]:
        """Maps a file's tensors to the model's, as transformers does.

        Returns:
            Loaded name to its (key, pattern of the converter or None), and the unused keys.
        """
        from transformers.core_model_loading import dot_natural_key, rename_source_key

        renamings, converters = self._conversions
        prefix = self.model.base_model_prefix
        located: dict[str, list[tuple[str, str | None]]] = {}
        unused: list[str] = []
        for key in sorted(keys, key=dot_natural_key):
            name, pattern = rename_source_key(key, renamings, converters, prefix, self.state)
            if name not in self.state and key in self.state:
                name, pattern = rename_source_key(key, [], [], prefix, self.state)
            if name in self.state:
                located.setdefault(name, []).append((key, pattern))
            else:
                unused.append(key)
        return located, unused

    def convert(self, group: str, tensors: list[tuple[str, str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Loaded tensors by name, converted from (key, pattern, tensor) as transformers does."""
        converter = deepcopy(next(one for one in self._conversions[1] if tensors[0][1] in one.source_patterns))
        for key, pattern, tensor in tensors:
            converter.add_tensor(group, key, pattern, tensor)
        made = converter.convert(group, model=self.model, config=self.model.config)
        return {name: one[0] if isinstance(one, list) else one for name, one in made.items()}

    def made_with(self, name: str) -> set[str]:
        """A loaded tensor and those converted from the same tensors in a file."""
        every = {name}
        for converter in self._conversions[1]:
            plain = [pattern.replace("\\", "").strip("^$") for pattern in converter.target_patterns]
            for one in plain if len(plain) > 1 else ():
                if one in name:
                    every |= {other for two in plain if (other := name.replace(one, two)) in self.state}
        return every

    def as_saved(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Loaded tensors with the names and shapes in which transformers saves them."""
        from transformers.core_model_loading import revert_weight_conversion

        saved: dict[str, torch.Tensor] = revert_weight_conversion(self.model, tensors)
        return saved

    def check_files(self) -> None:
        """Checks that the folder's files hold all weights of this model in the config's shapes.

        Raises:
            UserError: They do not; names the first tensor.
        """
        files = [open_file(path) for path in weight_files(self.folder)]
        slices = {key: file.get_slice(key) for file in files for key in file.keys()}  # noqa: SIM118 - not a dict
        if self.quantisation is not None:
            return  # quantised tensors have other names and shapes
        located, unused = self.locate(slices)
        if scale := next((key for key in unused if SCALES.search(key)), None):
            raise UserError(
                f"{self.folder}: the file holds {scale}, so its weights are quantised, and config.json has no"
                " quantization_config that says how"
            )
        for name, parts in located.items():
            for key, pattern in parts:
                if (stored := slices[key].get_dtype()) not in FLOATS and self.state[name].is_floating_point():
                    raise UserError(f"{self.folder}: tensor {key} is stored as {stored}; floating point is accepted")
                shape, expected = list(slices[key].get_shape()), list(self.state[name].shape)
                if pattern is None and shape != expected:
                    raise UserError(
                        f"{self.folder}: tensor {key} has shape {shape}, config.json describes one of {expected}"
                    )
        if missing := self.missing(located):
            raise UserError(f"{self.folder}: the weight files hold no {missing[0]}, which config.json describes")

    def missing(self, located: Iterable[str]) -> list[str]:
        """Loaded tensors that are neither in `located` nor tied to or converted with one that is."""
        located = list(located)
        present = set(located)
        for one, other in self.tied.items():
            if one in present or other in present:
                present |= {one, other}
        ignored = [
            re.compile(pattern) for pattern in getattr(self.model, "_keys_to_ignore_on_load_missing", None) or ()
        ]
        present |= {other for name in located for other in self.made_with(name)}
        return [n for n in self.state if n not in present and not any(re.search(one, n) for one in ignored)]


def read_base(folder: Path, *, trust_remote_code: bool = False) -> BaseModel:
    """The base model in a folder.

    Raises:
        UserError: The folder holds no causal language model that transformers can make.
    """
    return BaseModel(folder, trust_remote_code=trust_remote_code)


def base_shapes(folder: Path, *, trust_remote_code: bool = False) -> Shapes:
    """Shapes of the base model's parameters by name.

    Raises:
        UserError: The folder holds no causal language model that transformers can make.
    """
    return read_base(folder, trust_remote_code=trust_remote_code).shapes


def _check_raw_config(folder: Path) -> None:
    """Rejects foreign formats before transformers reads the config.

    Raises:
        UserError: config.json is missing, is not a JSON object, or is in MLX's quantised format.
    """
    path = folder / "config.json"
    if not path.is_file():
        holds = "an adapter's config, no model's" if (folder / "adapter_config.json").is_file() else "no config.json"
        raise UserError(f"{folder}: not a causal language model that can be loaded: it holds {holds}")
    try:
        config = read_json(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{folder}: not a causal language model that can be loaded: config.json is not JSON ({first_line(error)})"
        ) from error
    if not isinstance(config, dict):
        raise UserError(f"{folder}: not a causal language model that can be loaded: config.json holds no object")
    quantised = config.get("quantization_config", config.get("quantization"))
    if isinstance(quantised, dict) and "quant_method" not in quantised and {"group_size", "bits"} <= set(quantised):
        raise UserError(
            f"{folder}: the weights are quantised in MLX's format, which only MLX reads; give the original model"
        )


def _check_counts(folder: Path, config: Mapping[str, Any]) -> None:
    """Rejects a config with so many modules that creating them would take minutes.

    Raises:
        UserError: Layers times experts exceed `MOST_MODULES`.
    """
    counts = {name: n for name, n in config.items() if type(n) is int and name.startswith("n")}
    layers = max((n for name, n in counts.items() if name.endswith(("layer", "layers"))), default=1)
    experts = max((n for name, n in counts.items() if name.endswith("experts")), default=1)
    if layers * max(1, experts) > MOST_MODULES:
        raise UserError(f"{folder}: the config says {layers:,} layers of {experts:,} experts; that is no model")
    for inner in config.values():
        if isinstance(inner, Mapping):
            _check_counts(folder, inner)


def differing_field(base: Any, other: Any) -> tuple[str, Any, Any] | None:
    """The first field, with both values, in which two configs describe different computations, else None."""
    if base.model_type != other.model_type:
        return "model_type", base.model_type, other.model_type
    try:
        defaults: Mapping[str, Any] | None = type(base)().to_dict()
    except Exception:  # a custom class that requires arguments
        defaults = None
    return _differing(base.to_dict(), other.to_dict(), defaults, "")


def _differing(
    base: Mapping[str, Any], other: Mapping[str, Any], defaults: Mapping[str, Any] | None, path: str
) -> tuple[str, Any, Any] | None:
    """As `differing_field`, without fields that are not in the class's `defaults`: no model reads them."""
    rope = base.get("rope_parameters")
    scaled = isinstance(rope, Mapping) and rope.get("rope_type", "default") not in {"default", "linear", "llama3"}
    for name in sorted(set(base) | set(other)):
        one, two = base.get(name), other.get(name)
        if one == two or SAYS_NOTHING.search(name) or (defaults is not None and name not in defaults):
            continue
        if name == "max_position_embeddings" and not scaled:
            continue  # for learned positions, the shapes are compared
        if isinstance(one, Mapping) and isinstance(two, Mapping):
            inner = defaults.get(name) if defaults is not None and name.endswith("_config") else None
            if deeper := _differing(one, two, inner, f"{path}{name}."):
                return deeper
            continue
        return f"{path}{name}", one, two
    return None
