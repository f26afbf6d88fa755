"""make_embedder.py OUT: a small BERT of random weights for servers of embeddings."""

from __future__ import annotations

import json
import string
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

out = Path(sys.argv[1])
words = ["the belt carries each task to a host with room", *string.ascii_lowercase]
tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
tokenizer.train_from_iterator(words, trainer)
fast = PreTrainedTokenizerFast(
    tokenizer_object=tokenizer,
    model_max_length=256,
    pad_token="[PAD]",
    unk_token="[UNK]",
    cls_token="[CLS]",
    sep_token="[SEP]",
    mask_token="[MASK]",
)
fast.save_pretrained(out)
# The class that transformers 5 writes here is unknown to 4, which some servers still need.
settings = out / "tokenizer_config.json"
known = json.loads(settings.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
settings.write_text(json.dumps(known, indent=2))
torch.manual_seed(1)
sizes = {"hidden_size": 64, "intermediate_size": 128, "max_position_embeddings": 256}
layers = {"num_hidden_layers": 2, "num_attention_heads": 2}
BertModel(BertConfig(vocab_size=len(fast), **sizes, **layers)).save_pretrained(out)
