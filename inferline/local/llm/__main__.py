"""Serves a small GGUF model on the CPU, so that one machine has a real model."""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path
from types import FrameType

from inferline.local.llm import context
from inferline.local.options import default_threads

#: llama.cpp keeps finished prompts in memory; its own default is 8 GiB.
PROMPT_CACHE_MIB = 64

#: An embedding has to fit into one batch, and a batch takes a third of a megabyte for each token.
EMBEDDING_TOKENS_MAX = 1024


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m inferline.local.llm", description=__doc__)
    parser.add_argument("--model", required=True, help="the GGUF file")
    parser.add_argument("--alias", required=True, help="the model's name in /v1/models")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (%(default)s)")
    parser.add_argument("--port", type=int, default=8001, help="port to bind (%(default)s)")
    parser.add_argument("--slots", type=int, default=4, help="answers at a time (%(default)s)")
    parser.add_argument(
        "--threads",
        type=int,
        default=default_threads(os.cpu_count() or 1),
        help="CPU threads (%(default)s)",
    )
    parser.add_argument(
        "--context",
        type=lambda text: int(text) if text else None,
        help="tokens for each slot (the model's own, as far as a quarter of the memory goes)",
    )
    parser.add_argument(
        "--answer-tokens",
        type=int,
        default=-1,
        help="longest answer where a request sets no limit (%(default)s: what fits the context)",
    )
    serve(parser.parse_args(arguments))


def serve(options: argparse.Namespace) -> None:
    """Load the model and serve it; does not return."""
    import xllamacpp

    shape = context.shape_of(Path(options.model))
    tokens = context.chosen(shape, options.slots, options.context, context.memory_bytes())
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias}
    params.hostnames = [options.host]
    params.port = options.port
    params.n_parallel = options.slots
    params.n_ctx = options.slots * tokens
    params.n_predict = options.answer_tokens
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.n_batch = params.n_ubatch = min(tokens, EMBEDDING_TOKENS_MAX)
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.use_jinja = True
    params.endpoint_metrics = True
    # Embeddings need a pooling; chat goes on working beside them.
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(params)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    room = context.described(shape, options.slots, tokens)
    print(f"serving {options.alias}, {room}, at {server.listening_address}", flush=True)
    while True:
        signal.pause()


def _leave(_signal: int, _frame: FrameType | None) -> None:
    # llama.cpp's threads do not end by themselves, and there is nothing to save.
    os._exit(0)


if __name__ == "__main__":
    main()
