"""A model folder of a few kilobytes that vLLM takes for a Llama. Nothing is downloaded, and no tensor is written:
the server makes the weights up (`--load-format dummy`).

Its tokenizer has one token a byte, so that whoever writes a prompt of n letters knows that it has n tokens.
"""

import json
from dataclasses import dataclass
from pathlib import Path

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
_SPECIAL = (BOS, EOS, PAD)
_TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"


@dataclass(frozen=True)
class Size:
    """How much there is to compute for each token, and how long a sequence may be."""

    hidden: int = 128
    layers: int = 2
    context: int = 2048


def write(folder: Path, size: Size | None = None) -> Path:
    """Returns the folder, which `vllm serve` takes as its model."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = size or Size()
    for name, content in (
        ("config.json", _config(shape)),
        ("tokenizer.json", _tokenizer()),
        ("tokenizer_config.json", _tokenizer_config(shape)),
        ("generation_config.json", {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}),
    ):
        (folder / name).write_text(json.dumps(content))
    return folder


def _config(size: Size) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": size.hidden,
        "intermediate_size": 2 * size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.hidden // 32,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "vocab_size": len(_vocabulary()),
        "max_position_embeddings": size.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
        "torch_dtype": "bfloat16",
    }


def _tokenizer() -> dict[str, object]:
    added = [
        {
            "id": number,
            "content": word,
            "special": True,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for number, word in enumerate(_SPECIAL)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": _vocabulary(),
            "merges": [],
        },
    }


def _tokenizer_config(size: Size) -> dict[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "model_max_length": size.context,
        "chat_template": _TEMPLATE,
    }


def _vocabulary() -> dict[str, int]:
    """The special tokens, then each byte by the letter that byte-level tokenizers write for it."""
    return {word: number for number, word in enumerate((*_SPECIAL, *(_letter(byte) for byte in range(256))))}


def _letter(byte: int) -> str:
    """Printable bytes stand for themselves; the others get the letters from 256 on, in order."""
    return chr(byte) if _printable(byte) else chr(256 + sum(not _printable(earlier) for earlier in range(byte)))


def _printable(byte: int) -> bool:
    return 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or 0xAE <= byte <= 0xFF
