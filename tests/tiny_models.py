"""Tiny models of many architectures with random weights, their adapters and full experts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from conftest import make_tokenizer
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

WEIGHTS, ADAPTER, CONFIG = "model.safetensors", "adapter_model.safetensors", "adapter_config.json"
PLAIN = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
OLD = {"vocab_size": 259, "n_embd": 32, "n_layer": 2, "n_head": 2, "bos_token_id": 0, "eos_token_id": 1}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 8,
    "long_factor": [4.0] * 8,
    "original_max_position_embeddings": 64,
}
MANY = {"num_key_value_heads": 2}
EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", PLAIN),
    "llama with dynamic rope": (
        "Llama",
        {**PLAIN, "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
    ),
    "mistral with a window": ("Mistral", {**PLAIN, "sliding_window": 32}),
    "qwen2": ("Qwen2", PLAIN),
    "qwen3": ("Qwen3", PLAIN),
    "gemma": ("Gemma", PLAIN),
    "gemma2": (
        "Gemma2",
        {
            **PLAIN,
            "sliding_window": 32,
            "query_pre_attn_scalar": 16,
            "attn_logit_softcapping": 0.5,
            "final_logit_softcapping": 2.0,
        },
    ),
    "gemma3": ("Gemma3Text", {**PLAIN, "sliding_window": 32, "query_pre_attn_scalar": 16}),
    "phi": ("Phi", {**PLAIN, **MANY}),
    "phi3 with longrope": ("Phi3", {**PLAIN, "original_max_position_embeddings": 64, "rope_parameters": LONGROPE}),
    "gpt2": ("GPT2", {**OLD, "n_positions": 512}),
    "gpt-neo": (
        "GPTNeo",
        {
            **{k: v for k, v in PLAIN.items() if k[:4] != "num_"},
            "num_layers": 2,
            "num_heads": 2,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 32,
        },
    ),
    "gpt-j": ("GPTJ", {**OLD, "n_positions": 512, "rotary_dim": 8}),
    "gpt-neox": ("GPTNeoX", PLAIN),
    "gpt-bigcode": ("GPTBigCode", {**OLD, "n_positions": 512}),
    "codegen": ("CodeGen", {**OLD, "n_positions": 512, "rotary_dim": 8, "n_head": 4}),
    "bloom": (
        "Bloom",
        {"vocab_size": 259, "hidden_size": 32, "n_layer": 2, "n_head": 2, "bos_token_id": 0, "eos_token_id": 1},
    ),
    "mpt": ("Mpt", {"vocab_size": 259, "d_model": 32, "n_layers": 2, "n_heads": 2, "max_seq_len": 512}),
    "falcon": ("Falcon", {**{k: v for k, v in PLAIN.items() if k != "head_dim"}, "alibi": True}),
    "opt": ("OPT", {**PLAIN, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "mamba": (
        "Mamba",
        {"vocab_size": 259, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "eos_token_id": 1},
    ),
    "mixtral": ("Mixtral", {**PLAIN, "num_local_experts": 2, "num_experts_per_tok": 1}),
    "qwen3-moe": ("Qwen3Moe", {**PLAIN, **EXPERTS}),
    "gpt-oss": ("GptOss", {**PLAIN, "num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 32}),
    "olmo2": ("Olmo2", {**PLAIN, **MANY}),
    "cohere": ("Cohere", {**PLAIN, "logit_scale": 0.25}),
    "starcoder2": ("Starcoder2", {**PLAIN, "sliding_window": 32}),
    "stablelm": ("StableLm", {**PLAIN, **MANY}),
    "granite": ("Granite", {**PLAIN, "logits_scaling": 4.0}),
    "smollm3": ("SmolLM3", PLAIN),
    "apertus": ("Apertus", PLAIN),
    "roberta": ("Roberta", {**PLAIN, "is_decoder": True}),
    "rembert": ("RemBert", {**PLAIN, "is_decoder": True, "input_embedding_size": 32, "output_embedding_size": 32}),
}


TARGETS = {"mamba": ["in_proj", "x_proj"], "mixtral": ["q_proj", "o_proj"], "qwen3-moe": ["q_proj", "o_proj"]}
"""Modules to adapt where peft takes no or other tensors than modules' weights for all linear layers."""


def make_model(folder: Path, kind: str = "llama", seed: int = 0, **changes: Any) -> Path:
    """A base model of an architecture with random weights, and a tokenizer of one token a byte."""
    torch.manual_seed(seed)
    name, config = ARCHITECTURES[kind]
    model = AutoModelForCausalLM.from_config(getattr(transformers, f"{name}Config")(**{**config, **changes})).float()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() >= 2:
                weight.normal_(0, 0.15)
    model.save_pretrained(folder)
    make_tokenizer(folder)
    return folder


def make_lora(base: Path, folder: Path, seed: int = 1, **config: Any) -> Path:
    """A LoRA adapter of a base model, as peft saves it."""
    torch.manual_seed(seed)
    options = {"r": 2, "lora_alpha": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **config}
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), LoraConfig(**options))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.3)
    model.save_pretrained(folder)
    return folder


def make_full(base: Path, folder: Path, seed: int = 1, **config: Any) -> Path:
    """A full fine-tuned model: the base with noise on its weights, and other values in its config."""
    shutil.copytree(base, folder)
    torch.manual_seed(seed)
    edit_tensors(folder / WEIGHTS, lambda held: {k: v + 0.05 * torch.randn(v.shape) for k, v in held.items()})
    edit_json(folder / "config.json", **config)
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    """Sets keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(path: Path, change: Any) -> None:
    """Replaces the tensors of a safetensors file by what `change` makes of them."""
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(path)).items()}, path, {"format": "pt"})


def make_pairs_tokenizer(folder: Path | str) -> None:
    """A tokenizer that joins some pairs of bytes, so that texts have other tokens than those of single bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [("a", "n"), ("e", "s"), ("o", "d"), ("Ġ", "a"), ("h", "e")]
    vocabulary = {w: k for k, w in enumerate(["<s>", "</s>", "<pad>", *alphabet, *(a + b for a, b in pairs)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.save_pretrained(folder)
