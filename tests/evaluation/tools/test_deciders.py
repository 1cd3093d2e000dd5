"""What decided a label: by a criterion that can be checked, and by what a teacher shows when asked again and again."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from evaluation.contract.record import Conversation, Message, Role, parse_jsonl
from evaluation.contract.render import condition_text
from evaluation.contract.schema import Category, CategorySchema
from evaluation.suites import families, steerability
from evaluation.suites.deciders import decider
from evaluation.tools.deciders import main, orders
from tests.evaluation.fake_server import CODES, Asked, FakeServer, Model, Reply, listening, says

# -------------------------------------------------------------------------------------------- criteria to be checked

PLEASE, AMOUNT = "The customer says please.", "names a sum of money"


def schema(*includes: str) -> CategorySchema:
    return CategorySchema(
        none_of_these=True,
        categories=(
            Category(key="refund", name="Refund", definition="money is wanted back", includes=includes),
            Category(key="parcel", name="Parcel", definition="a parcel is late"),
        ),
    )


def told(text: str, category: str | None = "refund", number: int = 0, **more: str) -> Conversation:
    said = Message(role=Role.customer, text=text)
    return Conversation(id=f"{category}-{number}", messages=(said,), category=category, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "include",
    [
        "says please",
        "the customer uses the word please",
        " The Customer says PLEASE. ",
        "The customer says please .",
    ],
)
def test_an_include_that_can_be_checked_decides_where_it_alone_holds(include: str) -> None:
    both = schema(include, AMOUNT)
    assert decider(both, told("please help me")) == both.categories[0].includes[0]
    assert decider(both, told("it was $ 20")) == AMOUNT


@pytest.mark.parametrize(
    ("includes", "conversation"),
    [
        ((PLEASE, AMOUNT), told("please, it was $ 20")),  # either would do
        ((PLEASE, "uses the word please"), told("please help")),
        ((PLEASE, AMOUNT), told("help me")),  # neither: by the definition
        ((PLEASE, "the lamp is broken"), told("please help")),  # of the other one nothing is known
        ((PLEASE, "does not say please"), told("please help")),  # a denial is no wording
        ((), told("please help")),
        ((PLEASE,), told("please help", "parcel")),
        ((PLEASE,), told("please help", None)),
        ((PLEASE,), told("please help", "of another schema")),
    ],
)
def test_without_exactly_one_the_decider_is_not_known(
    includes: tuple[str, ...], conversation: Conversation
) -> None:
    assert decider(schema(*includes), conversation) is None
    assert not families.decided(schema(*includes), [conversation])


def test_what_a_label_says_itself_comes_first() -> None:
    assert decider(schema(PLEASE, AMOUNT), told("please help", criterion=AMOUNT)) == AMOUNT
    by_definition = told("please help", criterion="money is wanted back")
    assert not families.decided(schema(PLEASE, AMOUNT), [by_definition])


def test_boundary_excludes_what_a_predicate_decides_and_moves_only_what_a_label_says() -> None:
    texts = ("please help", "it was $ 20", "please, it was $ 20", "help")
    pool = [told(f"{texts[n % 4]} {'a' * n}", number=n) for n in range(32)]
    pool += [told(f"please, where is it {'a' * n}", "parcel", n) for n in range(8)]
    both = schema(PLEASE, AMOUNT)
    assert families.decided(both, pool) == {("refund", PLEASE): 8, ("refund", AMOUNT): 8}
    decided = {f"refund-{n}" for n in range(0, 32, 4)}
    assert families.boundary(both, "refund", PLEASE, None, pool).apart.ids == decided
    assert not families.boundary(both, "refund", PLEASE, "parcel", pool).apart.ids
    benchmark = steerability.build(both, pool, max_items=200, families=("boundary",))
    moved = [item.conversation_id for item in benchmark.items if item.must_move]
    assert moved and {int(one.removeprefix("refund-")) % 4 for one in moved} == {0, 1}
    assert {item.gold_after for item in benchmark.items if item.must_move} == {None}


# ------------------------------------------------------------------------------------------------------- the teacher

RUDE, WET, COUPON = "The courier was rude.", "the box was wet", "a coupon did not work"
POST = CategorySchema(
    name="post",
    none_of_these=True,
    categories=(
        Category(key="parcel", name="Parcel", definition="a parcel is late", includes=(RUDE, WET)),
        Category(key="money", name="Money", definition="money is owed", includes=(COUPON,)),
        Category(key="hours", name="Hours", definition="opening hours are asked for"),
    ),
)
OPEN = ("p0", "p1", "p2", "m0")  # what the teacher is to be asked about
ROWS: list[dict[str, Any]] = [
    *({"id": f"p{n}", "category": "parcel", "split": "test", "note": {"n": n}} for n in range(3)),
    {"id": "known", "category": "parcel", "split": "test", "criterion": WET},
    {"id": "hours", "category": "hours", "split": "test"},
    {"id": "none", "category": None, "split": "test"},
    {"id": "learned", "category": "parcel", "split": "train"},
    {"id": "unlabelled", "split": "test"},
    {"id": "m0", "criterion": None, "category": "money", "split": "test", "note": "später …"},
]


class Look(NamedTuple):
    """quote: None for what the customer really said."""

    key: str = "parcel"
    condition: str = RUDE
    quote: str | None = None


def teacher(*looks: Look) -> Model:
    """One after another, of each conversation."""
    before = Counter[str]()

    def answer(asked: Asked) -> Reply:
        key, condition, quote = looks[before[asked.customer] % len(looks)]
        before[asked.customer] += 1
        code = next(o.code for o in asked.options if o.definition == POST.category(key).definition)
        reason = (
            f'The customer says "{quote or asked.customer}", so {code} "{condition_text(condition)}" decides.'
        )
        return says(code, reason)

    return answer


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "schema.json").write_text(POST.model_dump_json())
    write(tmp_path, ROWS)
    tokenizer = Tokenizer(
        WordLevel({"[UNK]": 0} | dict(zip(CODES.texts, CODES.token_ids, strict=True)), unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    said = ({"messages": [{"role": "customer", "text": f"he swore at me, I am {row['id']}"}]} for row in rows)
    lines = (json.dumps(row | more) + "\n" for row, more in zip(rows, said, strict=True))
    (folder / "conversations.jsonl").write_text("".join(lines))


def command(files: Path, address: str, *more: str) -> int:
    given = ["--schema", str(files / "schema.json"), "--base-url", address, "--model", "fake"]
    given += ["--conversations", str(files / "conversations.jsonl"), "--tokenizer", str(files)]
    return main([*given, "--out", str(files / "decided.jsonl"), *more])


def written(files: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (files / "decided.jsonl").read_text(encoding="utf-8").splitlines()]


def test_what_a_teacher_shows_every_time_is_written_and_all_else_stays(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = FakeServer(teacher(Look()))
    with listening(server) as address:
        assert command(files, address) == 0
    said = capsys.readouterr()
    assert said.out.strip().endswith(
        "the deciding include was found for 3 of 4 labels (parcel 3 of 3, money 0 of 1)"
    )
    assert "teacher: 16 of 16" in said.err
    given = [json.loads(line) for line in (files / "conversations.jsonl").read_text().splitlines()]
    found = {f"p{n}": {"criterion": RUDE} for n in range(3)}
    assert written(files) == [row | found.get(row["id"], {}) for row in given]
    assert "später …" in (files / "decided.jsonl").read_text(encoding="utf-8")
    read = parse_jsonl((files / "decided.jsonl").read_bytes(), POST)
    assert families.decided(POST, read.conversations) == {("parcel", RUDE): 3, ("parcel", WET): 1}
    assert len({body["messages"][0]["content"] for body in server.bodies}) == 4  # every look is another
    asked = Counter(body["messages"][1]["content"].partition("I am ")[2].split()[0] for body in server.bodies)
    assert asked == dict.fromkeys(OPEN, 4)


TRUE, WRONG, FALSE = Look(), Look("money", COUPON), Look(quote="give me the moon")


@pytest.mark.parametrize(
    ("looks", "found"),
    [
        ([TRUE, TRUE, TRUE, WRONG], True),
        ([TRUE, TRUE, WRONG, WRONG], False),
        ([WRONG], False),
        ([TRUE, TRUE, Look(condition=WET), TRUE], False),
        ([TRUE, TRUE, Look(condition=WET, quote="give me the moon"), TRUE], False),
        ([TRUE, TRUE, Look(condition="a parcel is late"), TRUE], True),
        ([Look(condition="a parcel is late")], False),
        ([Look(condition="an include that nobody wrote")], False),
        ([TRUE, FALSE, TRUE, TRUE], True),
        ([TRUE, FALSE, FALSE, TRUE], False),
        ([FALSE], False),
        ([TRUE, TRUE], True),
        ([TRUE, FALSE], False),
        ([TRUE], True),
    ],
)
def test_three_looks_must_agree_and_none_may_say_another(
    looks: list[Look], found: bool, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = str(len(looks)) if looks in ([TRUE], [TRUE, TRUE], [TRUE, FALSE]) else "4"
    write(files, ROWS[:1])
    with listening(FakeServer(teacher(*looks))) as address:
        assert command(files, address, "--samples", samples) == 0
    assert f"found for {int(found)} of 1 labels (parcel {int(found)} of 1)" in capsys.readouterr().out
    assert written(files)[0].get("criterion") == (RUDE if found else None)


def test_looks_differ_in_the_order_of_categories_and_includes_and_end_with_the_orders() -> None:
    looks = orders(POST, 8)
    assert looks[0] == POST and len(set(looks)) == 8 and looks == orders(POST, 8)
    assert {one.category("parcel").includes for one in looks} == {(RUDE, WET), (WET, RUDE)}
    assert len(orders(POST, 100)) == 12 and len(orders(schema(PLEASE), 4)) == 2 and orders(POST, 1) == [POST]


def test_a_file_without_splits_is_asked_about_whole_and_may_be_csv(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "rows.csv").write_text("id,text,category,criterion\na,he swore,parcel,\nb,he spat,parcel,\n")
    with listening(FakeServer(teacher(Look()))) as address:
        assert command(files, address, "--conversations", str(files / "rows.csv")) == 0
    assert "2 of 2" in capsys.readouterr().out
    assert [(row["id"], row["criterion"]) for row in written(files)] == [("a", RUDE), ("b", RUDE)]


def test_what_can_be_checked_is_not_asked_about(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "schema.json").write_text(schema(PLEASE, AMOUNT).model_dump_json())
    rows = "id,text,category\na,please help,refund\n"
    (files / "rows.csv").write_text(rows)
    assert command(files, "http://localhost:1", "--conversations", str(files / "rows.csv")) == 2
    assert "leaves open which of them decided it" in capsys.readouterr().err


@pytest.mark.usefixtures("without_pauses")
@pytest.mark.parametrize(
    ("failing", "said"), [((404,) * 99, "404"), (None, "the model server cannot be reached")]
)
def test_a_server_that_is_away_exits_4_and_nothing_is_written(
    failing: tuple[int, ...] | None, said: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(files, ROWS[:1])  # others would be given up half-way, of which the server's thread complains
    with listening(FakeServer(teacher(Look()), failing=failing or ())) as address:
        assert command(files, "http://127.0.0.1:1" if failing is None else address) == 4
    shown = capsys.readouterr()
    assert "nothing written: the teacher, of conversation '" in shown.err and said in shown.err
    assert not shown.out and not (files / "decided.jsonl").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--tokenizer", "@nowhere"], "has no tokenizer.json"),
        (["--schema", "@tokenizer.json"], "categories"),
        (["--conversations", "@nowhere.jsonl"], "No such file"),
        (["--conversations", "@wrong.jsonl"], "2 rows cannot be used; line 2: category 'lamp' is not in the"),
        (["--conversations", "@more.csv"], "what is not read would be lost; give JSONL (column `note`"),
        (
            ["--conversations", "@other.csv"],
            "has no column `text`; its first row must name the columns",
        ),
        (["--conversations", "@latin.csv"], "not UTF-8"),
        (["--split", "validation"], "no label of the split validation is of a category with includes"),
        (["--samples", "0"], "--samples: 1 at least"),
        (["--out", "@nowhere/out.jsonl"], "a folder that exists"),
        (["--api-key-env", "STEERWISE_TEST_NO_KEY"], "STEERWISE_TEST_NO_KEY is empty"),
    ],
)
def test_bad_input_is_named_before_anybody_is_asked(
    change: list[str], said: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = (files / "conversations.jsonl").read_text().splitlines()[0]
    (files / "wrong.jsonl").write_text(
        "\n".join([good, good.replace("parcel", "lamp").replace("p0", "p1"), "{oops"])
    )
    (files / "more.csv").write_text("text,category,note\nhe swore,parcel,x\n")
    (files / "other.csv").write_text("words;category\nhe swore;parcel\n")
    (files / "latin.csv").write_bytes("text,category\nspät,parcel\n".encode("latin-1"))
    option, value = change
    server = FakeServer(teacher(Look()))
    with listening(server) as address:
        assert command(files, address, option, value.replace("@", f"{files}/")) == 2
    assert said in capsys.readouterr().err
    assert not server.bodies and not (files / "decided.jsonl").exists()
