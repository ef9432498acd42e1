"""Uploads a winner, or a merged model, with its card to the Hugging Face hub."""

from __future__ import annotations

import json
from pathlib import Path

from utilities.bounded_input import read_json
from utilities.errors import UserError, describe, first_line

__all__ = ["push"]


def push(folder: Path, repo: str, *, public: bool, update: bool) -> str:
    """Uploads a run's winner, or a folder of `merge`, in one commit; returns the address of the repository.

    The token is the one that huggingface_hub finds: the variable HF_TOKEN, or the login of `hf auth login`.

    Args:
        folder: Run folder, or a model folder.
        repo: `OWNER/NAME`.
        public: Whether a new repository is public.
        update: Whether the repository may exist.

    Raises:
        UserError: Nothing to upload, no token, a repository that exists, or a server that refuses or does not answer.
    """
    import httpx
    from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    files = _files(folder, repo)
    if constants.HF_HUB_OFFLINE:
        raise UserError("HF_HUB_OFFLINE is set in the environment: unset it to upload")
    if get_token() is None:
        raise UserError("no login for the hub: set the environment variable HF_TOKEN, or run `hf auth login`")
    api = HfApi()
    try:
        url = api.create_repo(repo, private=not public, exist_ok=update)
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        api.create_commit(repo, operations, commit_message=f"Upload {folder.name} of model-swarms")
    except HFValidationError as error:
        raise UserError(f"{repo!r} is no name of a repository (OWNER/NAME): {first_line(error)}") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 409:
            raise UserError(f"{repo} already exists; --update adds a commit to it") from error
        advice = "; the token may not write there" if status in (401, 403) else ""
        raise UserError(f"{constants.ENDPOINT} refuses (HTTP {status}): {first_line(error)}{advice}") from error
    except (httpx.HTTPError, OSError, ValueError, KeyError, RuntimeError) as error:  # RuntimeError: of a large file
        raise UserError(f"{constants.ENDPOINT}: the upload failed: {describe(error.__cause__ or error)}") from error
    return str(url)


def _files(folder: Path, repo: str) -> dict[str, str | bytes]:
    """Name in the repository to a local path or a content."""
    if not (folder / "settings.yaml").is_file():
        if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
            raise UserError(f"{folder} is neither a run folder nor a model folder of `merge`")
        return {path.name: str(path) for path in sorted(folder.iterdir()) if path.is_file() and path.name[0] != "."}
    from harness.publish.card import Winner

    winner = Winner.of_run(folder)
    files: dict[str, str | bytes] = {p.name: str(p) for p in sorted(winner.folder.iterdir()) if p.is_file()}
    files["README.md"] = winner.card("peft" if winner.kind == "lora" else "transformers", repo).encode()
    if winner.kind == "lora":
        config = read_json((winner.folder / "adapter_config.json").read_bytes())
        stored = str(config.get("base_model_name_or_path") or "")
        config["base_model_name_or_path"] = winner.hub_base or (Path(stored).name if Path(stored).exists() else stored)
        files["adapter_config.json"] = (json.dumps(config, indent=2) + "\n").encode()
    return files
