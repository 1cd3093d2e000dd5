"""A tokenizer's file for commands that read the codes from a model's folder, and a fake server that knows them."""

from pathlib import Path

from tokenizers import Tokenizer
from tokenizers import models as tokenizer_models
from tokenizers.pre_tokenizers import ByteLevel

from tests.evaluation.fake_server import CODES


def save_tokenizer(folder: Path) -> None:
    """Its first codes have the token ids that the fake server knows: 100, 101, …"""
    pieces = sorted(ByteLevel.alphabet())
    vocabulary = {piece: i if i < 100 else i + 1000 for i, piece in enumerate(pieces)}
    codes = [code for code in CODES.texts if len(code) == 1]
    vocabulary |= {f"Ġ{code}": CODES.token_ids[i] for i, code in enumerate(codes)}
    filled = vocabulary | {f"[{i}]": i for i in range(2000) if i not in set(vocabulary.values())}
    tokenizer = Tokenizer(tokenizer_models.BPE(filled, [("Ġ", code) for code in codes]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
