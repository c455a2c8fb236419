"""A model of 100 kB in llama.cpp's own format, without any sense: enough to start a real server with."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

_WIDTH, _HIDDEN, _CONTEXT = 32, 32, 512
_UINT32, _FLOAT32, _STRING, _ARRAY, _INT32 = 4, 6, 8, 9, 5
_ALIGNMENT = 32
_NORMAL, _CONTROL = 1, 3


def write_tiny_gguf(path: Path) -> Path:
    """Write a llama with one layer, one token for each byte, and all weights zero."""
    tokens = [*_byte_letters(), "<|im_start|>", "<|im_end|>"]
    kinds = [*[_NORMAL] * 256, _CONTROL, _CONTROL]
    settings: list[tuple[str, int, Any]] = [
        ("general.architecture", _STRING, "llama"),
        ("general.name", _STRING, "tiny"),
        ("llama.context_length", _UINT32, _CONTEXT),
        ("llama.embedding_length", _UINT32, _WIDTH),
        ("llama.block_count", _UINT32, 1),
        ("llama.feed_forward_length", _UINT32, _HIDDEN),
        ("llama.attention.head_count", _UINT32, 2),
        ("llama.attention.head_count_kv", _UINT32, 2),
        ("llama.rope.dimension_count", _UINT32, _WIDTH // 2),
        ("llama.attention.layer_norm_rms_epsilon", _FLOAT32, 1e-5),
        ("llama.vocab_size", _UINT32, len(tokens)),
        ("tokenizer.ggml.model", _STRING, "gpt2"),
        ("tokenizer.ggml.pre", _STRING, "qwen2"),
        ("tokenizer.ggml.tokens", _ARRAY, (_STRING, tokens)),
        ("tokenizer.ggml.token_type", _ARRAY, (_INT32, kinds)),
        ("tokenizer.ggml.merges", _ARRAY, (_STRING, ["a b"])),
        ("tokenizer.ggml.bos_token_id", _UINT32, 256),
        ("tokenizer.ggml.eos_token_id", _UINT32, 257),
    ]
    square, wide = (_WIDTH, _WIDTH), (_WIDTH, _HIDDEN)
    shapes = {
        "token_embd.weight": (_WIDTH, len(tokens)),
        "output.weight": (_WIDTH, len(tokens)),
        "output_norm.weight": (_WIDTH,),
        "blk.0.attn_norm.weight": (_WIDTH,),
        "blk.0.ffn_norm.weight": (_WIDTH,),
        **{f"blk.0.attn_{name}.weight": square for name in ("q", "k", "v", "output")},
        **{f"blk.0.ffn_{name}.weight": wide for name in ("gate", "up", "down")},
    }
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(settings))
    for name, kind, value in settings:
        head += _text(name) + struct.pack("<I", kind) + _value(kind, value)
    data = b""
    for name, shape in shapes.items():
        head += _text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        head += struct.pack("<IQ", 0, len(data))
        size = 4
        for length in shape:
            size *= length
        data += bytes(size + -size % _ALIGNMENT)
    path.write_bytes(head + bytes(-len(head) % _ALIGNMENT) + data)
    return path


def _byte_letters() -> list[str]:
    """A printable letter for each byte, as byte-level vocabularies spell them."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    return [chr(byte if byte in shown else next(hidden)) for byte in range(256)]


def _value(kind: int, value: Any) -> bytes:
    if kind == _STRING:
        return _text(value)
    if kind == _ARRAY:
        inner, items = value
        return struct.pack("<IQ", inner, len(items)) + b"".join(_value(inner, item) for item in items)
    return struct.pack({_UINT32: "<I", _INT32: "<i", _FLOAT32: "<f"}[kind], value)


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw
