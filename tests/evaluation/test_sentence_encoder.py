"""The embeddings are those of the published model: computed here with numpy, compared with transformers' own."""

import numpy as np
import pytest

from evaluation import sentence_encoder
from evaluation.sentence_encoder import EncoderMissing, KnownTexts, LowRank, SentenceEncoder

TEXTS = ["where is my parcel", "I want my money back. " * 9, "", "word " * 600, "Ünïcode 😀 文字"]


def test_embeddings_are_those_of_transformers_and_of_no_neighbour() -> None:
    torch = pytest.importorskip("torch", reason="needs torch, to compare with")
    transformers = pytest.importorskip("transformers")
    folder = str(sentence_encoder.folder())
    model = transformers.BertModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    found = SentenceEncoder().encode(TEXTS)
    for text, row in zip(TEXTS, found, strict=True):
        read = tokenizer([text], truncation=True, max_length=sentence_encoder.MOST_READ, return_tensors="pt")
        with torch.no_grad():
            mean = model(**read).last_hidden_state[0].mean(dim=0)
        assert np.abs((mean / mean.norm()).numpy() - row).max() < 1e-5, text


def test_more_texts_than_are_read_at_once_keep_their_order() -> None:
    encoder = SentenceEncoder()
    texts = [f"order {number} is late" for number in range(70)]
    rows = encoder.encode(texts)
    assert rows.shape == (70, 384)
    assert np.abs(rows[40] - encoder.encode([texts[40]])[0]).max() < 1e-5


def test_other_weights_than_the_published_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence_encoder, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(EncoderMissing, match="pip install"):
        SentenceEncoder()


def test_the_last_texts_are_read_once_and_kept_without_their_words() -> None:
    made: list[str] = []
    known = KnownTexts(lambda texts: made.extend(texts) or [len(text) for text in texts], most=2)
    assert known(["one", "two"]) == [3, 3]
    assert known(["one", "three"]) == [3, 5]
    assert made == ["one", "two", "three"]
    known(["two"])
    assert made == ["one", "two", "three", "two"]
    assert all(isinstance(key, bytes) for key in known._known)
    long = KnownTexts(lambda texts: [len(text) for text in texts], most=6, size=lambda length: length)
    long(["three", "one"])
    assert list(long._known.values()) == [3]
    long(["one", "two"])
    assert list(long._known.values()) == [3, 3]


def test_a_text_without_a_word_has_a_token_too_and_changes_are_added() -> None:
    plain = SentenceEncoder()
    empty, word = plain.read(["", "parcel"])
    assert empty.tokens_TD.shape == (2, 384) and word.tokens_TD.shape == (1, 384)
    assert np.abs(word.mean_D - plain.encode(["parcel"])[0]).max() < 1e-5
    name, rows = "encoder.layer.5.output.dense", np.eye(2, 1536, dtype=np.float32)
    changed = SentenceEncoder({name: LowRank(rows, 5 * np.eye(384, 2, dtype=np.float32))})
    assert np.abs(changed.encode(["parcel"]) - plain.encode(["parcel"])).max() > 1e-3
    none = SentenceEncoder({name: LowRank(rows, np.zeros((384, 2), dtype=np.float32))})
    assert np.array_equal(none.encode(["parcel"]), plain.encode(["parcel"]))
