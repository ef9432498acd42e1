"""Reads a reward model of any of the kinds that people have, as a sequence classifier with one output.

- A sequence classifier whose head has one output, whatever its config says of labels.
- A language model with the value head of a trainer (`v_head`, `value_head`), in its weights or in a file beside them.
- A LoRA adapter of either, with its head beside the adapter or in the base model.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utilities.bounded_input import read_json
from utilities.errors import UserError, first_line

__all__ = ["EMBEDDED", "read_reward_model", "source_of"]

EMBEDDED = Path(__file__).parent / "embedded"
"""The small reward model that ships with the project; its name is `embedded`."""

ADAPTER = "adapter_config.json"
HEADS = ("score", "classifier.out_proj", "classifier")
"""Heads of sequence classifiers."""
PEFT = "base_model.model."
"""Prefix of the names in an adapter's file."""
VALUE_HEADS = ("v_head.summary", "v_head", "value_head.summary", "value_head", "reward_head")
"""Heads that trainers put on a language model; a linear function of the last hidden state of the last token."""


def source_of(name: str) -> str:
    """The source for transformers: a folder or a hub id.

    Raises:
        UserError: It is neither.
    """
    if name == "embedded":
        if not (EMBEDDED / "config.json").is_file():
            raise UserError(
                "the embedded reward model is not in this installation;"
                " a folder or hub id (owner/name) of a sequence classifier with one output is accepted as well"
            )
        return str(EMBEDDED)
    path = Path(name).expanduser()
    if name.strip() and path.is_dir():
        return str(path.resolve())
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or name.endswith("/"):
        raise UserError(
            f"{name or 'an empty name'}: no such folder, and it is neither a hub id (owner/name) nor 'embedded'"
        )
    return name


def read_reward_model(
    name: str, source: str, dtype: str, trust_remote_code: bool, own_scoring: bool, base: str | None = None
) -> tuple[Any, Any]:
    """Loads model and tokenizer.

    Args:
        name: What the user wrote, for messages.
        source: Folder or hub id.
        dtype: Name of a torch type.
        trust_remote_code: Allow execution of Python code from the repository.
        own_scoring: Load the model's own class, which has `get_score`.
        base: Base model of an adapter, in place of the one that it names.

    Raises:
        UserError: The model cannot be loaded, or has no trained head with one output.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # for reading weights from disk; downloads have their own
    try:
        if own_scoring:
            return _own_class(name, source, dtype, trust_remote_code)
        folder = _folder(source)
        if (folder / ADAPTER).is_file():
            return _adapted(name, folder, dtype, trust_remote_code, base)
        if base is not None:
            raise UserError(f"{name}: base is only for an adapter, and this folder has no {ADAPTER}")
        model, head = _classifier(name, folder, dtype, trust_remote_code)
        if head is None:
            raise UserError(f"{name}: {_found(folder)}; a reward model comes with a trained head of one output")
        return model, _tokenizer(folder, trust_remote_code)
    except UserError:
        raise
    except Exception as error:  # the library raises many types, and a model's own code any
        first = first_line(error)
        if not trust_remote_code and "custom code" in first:
            first = "it brings Python code of its own; with trust_remote_code that code is run here"
        tried = "the reward model cannot be loaded" if Path(source).is_dir() else "no such folder, and not from the hub"
        raise UserError(f"{name}: {tried}: {first}") from error


def _own_class(name: str, source: str, dtype: str, trust_remote_code: bool) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(
        source, dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=trust_remote_code
    )
    if not callable(getattr(model, "get_score", None)):
        raise UserError(f"{name}: the model has no scoring method of its own (get_score); load it without own_scoring")
    return model, _tokenizer(source, trust_remote_code)


def _folder(source: str) -> Path:
    """The local folder of a source; files of a hub repository are downloaded."""
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.py"]
    return Path(snapshot_download(source, allow_patterns=wanted))


def _tokenizer(source: str | Path, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)


def _tensors(folder: Path) -> dict[str, tuple[Path, tuple[int, ...]]]:
    """File and shape of every tensor of a folder's safetensors files."""
    from safetensors import safe_open

    found: dict[str, tuple[Path, tuple[int, ...]]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            found |= {key: (path, tuple(file.get_slice(key).get_shape())) for key in file.keys()}  # noqa: SIM118
    return found


def _head(tensors: Mapping[str, tuple[Path, tuple[int, ...]]], names: tuple[str, ...]) -> str | None:
    """The first of the heads that the tensors contain, by the name of its tensors."""
    heads = (prefix + name for name in names for prefix in ("", PEFT))
    return next((head for head in heads if f"{head}.weight" in tensors), None)


def _classifier(name: str, folder: Path, dtype: str, trust_remote_code: bool) -> tuple[Any, str | None]:
    """The model of a folder as a sequence classifier with one output, and its head; without one, the head is random.

    Raises:
        UserError: The head has several outputs, or other weights are missing.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    tensors = _tensors(folder)
    head, value_head = _head(tensors, HEADS), _head(tensors, VALUE_HEADS)
    outputs = tensors[f"{head}.weight"][1][0] if head else 1
    if outputs != 1:
        labels = ", ".join(map(str, config.id2label.values())) if len(config.id2label) == outputs else "unnamed"
        raise UserError(f"{name}: the model has {outputs} outputs ({labels}); a reward model has one")
    model, info = AutoModelForSequenceClassification.from_pretrained(
        folder,
        dtype=getattr(torch, dtype),
        use_safetensors=True,
        trust_remote_code=trust_remote_code,
        output_loading_info=True,
        num_labels=1,
    )
    # A language model loads as a classifier without an error, but with a random head.
    in_head = {key for key in info["missing_keys"] if key.split(".")[0] in {"score", "classifier"}}
    missing = sorted({*info["missing_keys"]} - (set() if head else in_head))
    if missing:
        raise UserError(f"{name}: its weights lack {', '.join(missing[:3])}")
    if head is None and value_head is not None:
        _set_head(name, model, value_head, tensors)
    return model, head or value_head or (None if in_head else "head")


def _set_head(name: str, model: Any, head: str, tensors: Mapping[str, tuple[Path, tuple[int, ...]]]) -> None:
    """Makes a linear head of the files the model's head.

    Raises:
        UserError: Its shape is not [1, hidden size], or the model's own head is not a linear one.
    """
    import torch
    from safetensors import safe_open

    old = getattr(model, "score", None)
    if not isinstance(old, torch.nn.Linear):
        raise UserError(f"{name}: {type(model).__name__} has no linear head `score`, in whose place {head} could be")
    path, shape = tensors[f"{head}.weight"]
    if shape != (1, old.in_features):
        raise UserError(f"{name}: {head}.weight is {list(shape)}; [1, {old.in_features}] is expected")
    with safe_open(path, "pt") as file:
        weight = file.get_tensor(f"{head}.weight")
        bias = file.get_tensor(f"{head}.bias") if f"{head}.bias" in tensors else None
    model.score = torch.nn.Linear(old.in_features, 1, bias=bias is not None, dtype=model.dtype)
    model.score.load_state_dict({"weight": weight, **({} if bias is None else {"bias": bias})})


def _adapted(name: str, folder: Path, dtype: str, trust_remote_code: bool, base: str | None) -> tuple[Any, Any]:
    """A base model with a LoRA adapter merged into it, and the head of either."""
    from peft import PeftConfig, PeftModel

    named = read_json((folder / ADAPTER).read_bytes()).get("base_model_name_or_path")
    if base is None and not named:
        raise UserError(f"{name}: the adapter names no base model; name it with --option base=NAME")
    try:
        base_folder = _folder(source_of(base or str(named)))
    except Exception as error:
        raise UserError(
            f"{name}: its base model {base or named} cannot be loaded ({first_line(error):.200}); name another place of"
            " it with --option base=NAME"
        ) from error
    model, base_head = _classifier(name, base_folder, dtype, trust_remote_code)
    tensors = _tensors(folder)
    own_head, value_head = _head(tensors, HEADS), _head(tensors, VALUE_HEADS)
    if not (own_head or value_head or base_head):
        raise UserError(
            f"{name}: neither the adapter nor its base model {base or named} has a trained head with one output"
        )
    config = PeftConfig.from_pretrained(folder)
    config.task_type = "SEQ_CLS" if own_head else None  # of a language model: no generation
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(model, folder, config=config)
    if lost := next((one for one in caught if "missing adapter keys" in str(one.message)), None):
        raise UserError(f"{name}: the adapter does not fit its base model: {first_line(Exception(lost.message)):.200}")
    model = model.merge_and_unload()
    if own_head is None and value_head is not None:
        _set_head(name, model, value_head, tensors)
    has_tokenizer = any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json"))
    return model, _tokenizer(folder if has_tokenizer else base_folder, trust_remote_code)


def _found(folder: Path) -> str:
    """What a folder without a head holds, in words."""
    config = read_json((folder / "config.json").read_bytes())
    kinds = ", ".join(map(str, config.get("architectures") or [])) or "a model"
    pickled = sorted(path.name for path in folder.glob("*.bin") if "head" in path.name or "pytorch_model" in path.name)
    beside = f" ({', '.join(pickled)} is pickled and not read; convert it to safetensors)" if pickled else ""
    return f"it holds {kinds}, whose weights have no {' or '.join(HEADS[:1] + VALUE_HEADS[:1])}{beside}"
