"""Full fine-tuned models as experts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file

from harness.experts.base_model import BaseModel, differing_field
from harness.experts.files import FLOATS, open_file, weight_files
from harness.experts.mixing import ConvertedTensor, Expert, PoolTensors, StoredTensor, mixed_tensor, module_of
from utilities.bounded_input import read_json
from utilities.errors import UserError, first_line

__all__ = ["ModelPool"]


class ModelPool(PoolTensors):
    """Fully fine-tuned models of one architecture as particles: their weights are mixed directly.

    A row is base + sum_j c_j (expert_j - base): with coefficients that sum to 1 the base cancels, and a row of zeros is
    the base model, as with LoRA. Tensors have the loaded model's names; files with other names or split tensors are
    converted as transformers does on loading.
    """

    kind: Literal["lora", "model", "tokens"] = "model"
    base_warning: str | None = None

    def __init__(self, experts: tuple[Expert, ...], base: BaseModel) -> None:
        super().__init__(experts, base)
        if base.quantisation:
            raise UserError(f"{base.folder}: full models cannot be mixed with a base quantised by {base.quantisation}")
        for expert in experts:
            _check_config(expert, base)
        members = (*experts, Expert("the base model", base.folder))
        sources = [self._member(expert) for expert in members]
        every = set().union(*sources)
        for expert, own in zip(members, sources, strict=True):
            if missing := sorted(every - set(own)):
                raise UserError(
                    f"expert {expert.name!r}: tensor {missing[0]} is missing; full models must share one architecture"
                )
        self._sources = {name: [own[name] for own in sources] for name in sources[-1]}
        self._shapes = {name: tuple(base.state[name].shape) for name in self._sources}

    def _member(self, expert: Expert) -> dict[str, StoredTensor | ConvertedTensor]:
        """Loaded name to the source of each tensor of one model; tied names appear once."""
        files, base = _model_keys(expert.folder), self.base
        located, unused = base.locate(files)
        if stray := next((key for key in unused if not base.ignores(key)), None):
            raise UserError(f"expert {expert.name!r}: tensor {stray} is unknown to the base model")
        made: dict[str, StoredTensor | ConvertedTensor] = {}
        for name, parts in located.items():
            for key, pattern in parts:
                tensor = files[key].get_slice(key)
                if tensor.get_dtype() not in FLOATS:
                    raise UserError(
                        f"expert {expert.name!r}: tensor {key} is stored as {tensor.get_dtype()}; floating point is"
                        " accepted"
                    )
                shape, expected = list(tensor.get_shape()), list(base.state[name].shape)
                if pattern is None and shape != expected:
                    raise UserError(
                        f"expert {expert.name!r}: {key} has shape {shape}, the base model's is {expected}; full models"
                        " must share one architecture"
                    )
            if parts[0][1] is None:
                made[name] = StoredTensor(files[parts[0][0]], parts[0][0], 1.0)
            else:
                convert = partial(_converted, base, name, files, parts)
                made |= {target: ConvertedTensor(target, convert) for target in base.made_with(name)}
        for copy_of, name in base.tied.items():
            tied = made.pop(copy_of, None)
            if tied is not None and not torch.equal(tied.read(), made.setdefault(name, tied).read()):
                raise UserError(
                    f"expert {expert.name!r}: {copy_of} and {name} are one tensor in the base model and differ here"
                )
        return made

    def mix(self, rows: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Streams the mixtures: (parameter name, [rows, *shape])."""
        for name, sources in self._sources.items():
            part = self.grouping.part(rows, module_of(name))
            part = torch.cat([part, 1.0 - part.sum(dim=1, keepdim=True)], dim=1)
            yield name, mixed_tensor(sources, part, self._shapes[name])

    def write(self, row: torch.Tensor, folder: Path) -> None:
        """Writes the mixture `row` as a float32 model folder; config and tokenizer are the base model's."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor[0].contiguous() for name, tensor in self.mix(row.to(torch.float32)[None])}
        if any(isinstance(sources[-1], ConvertedTensor) for sources in self._sources.values()):
            tensors = {name: tensor.contiguous() for name, tensor in self.base.as_saved(tensors).items()}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        for path in (p for kind in ("json", "model", "txt", "jinja", "py") for p in self.base.folder.glob(f"*.{kind}")):
            if not path.name.endswith(".safetensors.index.json"):
                shutil.copy(path, folder / path.name)
        config = folder / "config.json"
        values = read_json(config.read_text(encoding="utf-8"))
        # Otherwise transformers would round the weights on loading.
        values |= {key: "float32" for key in ("dtype", "torch_dtype") if key in values}
        config.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _model_keys(folder: Path) -> dict[str, Any]:
    """Tensor name to its open file."""
    return {key: file for path in weight_files(folder) for file in [open_file(path)] for key in file.keys()}  # noqa: SIM118


def _converted(
    base: BaseModel, name: str, files: Mapping[str, Any], parts: Sequence[tuple[str, str | None]]
) -> dict[str, torch.Tensor]:
    return base.convert(name, [(key, pattern or "", files[key].get_tensor(key)) for key, pattern in parts])


def _check_config(expert: Expert, base: BaseModel) -> None:
    """Checks that a full model differs from the base only in its weights.

    Raises:
        UserError: It is quantised, or its config describes another computation; names the field.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(expert.folder, trust_remote_code=base.trusted)
    except Exception as error:  # any error of the config class
        raise UserError(f"expert {expert.name!r}: {expert.folder}: {first_line(error)}") from error
    if getattr(config, "quantization_config", None) is not None:
        raise UserError(f"expert {expert.name!r} is quantised; full models are mixed as plain numbers")
    if (field := differing_field(base.config, config)) is not None:
        name, one, other = field
        raise UserError(
            f"expert {expert.name!r}: {name} is {other} in its config.json and {one} in the base model's; full models"
            " must share one config"
        )
