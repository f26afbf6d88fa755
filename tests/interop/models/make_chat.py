"""make_chat.py GGUF OUT: the demo's GGUF model as a folder that Hugging Face's libraries read."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy
import torch
from gguf import GGUFReader, dequantize
from safetensors.torch import save_file
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig

#: llama.cpp's names of a layer's tensors and those of transformers.
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OUTSIDE = {
    "token_embd": "model.embed_tokens.weight",
    "output_norm": "model.norm.weight",
    "output": "lm_head.weight",
}


def main(gguf: Path, out: Path) -> None:
    reader = GGUFReader(gguf)

    def number(name: str) -> float:
        field = reader.fields[f"llama.{name}"]
        return float(field.parts[field.data[0]][0])

    heads = {"attn_q": number("attention.head_count"), "attn_k": number("attention.head_count_kv")}
    weights = {}
    for tensor in reader.tensors:
        shape = [int(size) for size in reversed(tensor.shape)]
        values = numpy.array(dequantize(tensor.data, tensor.tensor_type), numpy.float32)
        name, values = renamed(tensor.name, values.reshape(shape), heads)
        weights[name] = torch.from_numpy(numpy.ascontiguousarray(values)).to(torch.bfloat16)
    out.mkdir(parents=True, exist_ok=True)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    config(number, weights, heads).save_pretrained(out)
    GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=2).save_pretrained(out)
    AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name).save_pretrained(out)


def renamed(name: str, values: numpy.ndarray, heads: dict[str, float]) -> tuple[str, numpy.ndarray]:
    first, *rest = name.split(".")
    if first != "blk":
        return OUTSIDE[first], values
    layer, part = rest[0], rest[1]
    if part in heads:
        # llama.cpp keeps the two halves of each head interleaved for its rotary embedding.
        count = int(heads[part])
        halves = values.reshape(count, values.shape[0] // count // 2, 2, values.shape[1])
        values = halves.swapaxes(1, 2).reshape(values.shape)
    return f"model.layers.{layer}.{LAYER[part]}.weight", values


def config(number, weights, heads) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=weights["model.embed_tokens.weight"].shape[0],
        hidden_size=int(number("embedding_length")),
        intermediate_size=int(number("feed_forward_length")),
        num_hidden_layers=int(number("block_count")),
        num_attention_heads=int(heads["attn_q"]),
        num_key_value_heads=int(heads["attn_k"]),
        max_position_embeddings=int(number("context_length")),
        rms_norm_eps=number("attention.layer_norm_rms_epsilon"),
        rope_theta=number("rope.freq_base"),
        tie_word_embeddings="lm_head.weight" not in weights,
        bos_token_id=1,
        eos_token_id=2,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
