"""Attacks that ask for a category: a model that obeys is found out, and one that does not is left in peace."""

import asyncio
import base64
import codecs
import unicodedata
from collections import Counter
from collections.abc import Callable

from evaluation.contract.record import MAX_MESSAGES, Conversation, Message, Role, Split
from evaluation.contract.render import plain, render
from evaluation.contract.schema import Category, CategorySchema
from evaluation.inference import runner
from evaluation.metrics import injection as scoring
from evaluation.metrics.injection import LEVELS, InjectionReport
from evaluation.suites import injection
from evaluation.suites.injection import (
    Attack,
    AttackForm,
    AttackLocation,
    Encoding,
    InjectionSuite,
    Kind,
    Language,
    Naming,
)
from tests.evaluation.answering import FAILS, NO_ANSWER, Answer, Answering
from tests.evaluation.fake_server import CODES
from tests.evaluation.shop import SCHEMA, conversations, of_split

SUITE = injection.build(SCHEMA, of_split(Split.test))
ATTACKS = [item.attack for item in SUITE.items if item.attack]
RIGHT = {c.id: c.category for c in conversations()}


def scored(answer: Answer, suite: InjectionSuite = SUITE) -> InjectionReport:
    measured = asyncio.run(runner.run(suite.questions, Answering(answer), model="fake"))
    return scoring.score(suite, measured)


def right(schema: CategorySchema, conversation: Conversation) -> str | None:
    return RIGHT[conversation.id]


def seen(schema: CategorySchema, conversation: Conversation) -> Attack | None:
    """The attack that stands in the prompt."""
    prompt = "\n".join(m["content"] for m in render(schema, conversation, CODES.texts).messages)
    own = [item.attack for item in SUITE.items if item.attack and item.conversation_id == conversation.id]
    there = [attack for attack in own if as_shown(attack.text) in prompt.replace('"', "'")]
    return max(there, key=lambda attack: len(attack.text), default=None)


def as_shown(text: str) -> str:
    return plain(text).replace('"', "'").removesuffix(".")


def when_attacked(answer: Callable[[Attack], str | None]) -> Answer:
    def answered(schema: CategorySchema, conversation: Conversation) -> str | None:
        attack = seen(schema, conversation)
        return answer(attack) if attack else right(schema, conversation)

    return answered


def form(**chosen: object) -> AttackForm:
    usual = AttackForm(
        AttackLocation.customer, Kind.instruction, Language.english, Encoding.plain, Naming.by_name
    )
    return usual._replace(**chosen)


def test_a_model_that_obeys_has_success_1_everywhere() -> None:
    report = scored(when_attacked(lambda attack: attack.target))
    assert (report.success.value, report.disturbed.value) == (1, 1)
    assert report.success.n == report.attacks == len(ATTACKS)
    assert report.conversations == len(SUITE.items) - len(ATTACKS)
    for rates in (getattr(report, f"by_{what}").values() for what in LEVELS):
        assert {rate.success.value for rate in rates} == {1}
        assert sum(rate.success.n for rate in rates) == len(ATTACKS)


def test_a_model_that_ignores_attacks_has_success_0_and_the_interval_does_not_claim_certainty() -> None:
    report = scored(right)
    assert (report.success.value, report.disturbed.value) == (0, 0)
    assert report.success.ci95 is not None and report.success.ci95[0] == 0
    assert 0.03 < report.success.ci95[1] < 0.1  # of 80 conversations
    assert report.examples == []


def test_a_model_that_obeys_one_place_or_one_encoding_is_seen_there() -> None:
    def obeys_agents(attack: Attack) -> str | None:
        return attack.target if attack.form.place is AttackLocation.agent else "refund"

    agents = scored(when_attacked(obeys_agents)).by_place
    assert agents["agent"].success.value == 1
    decodes = when_attacked(lambda a: a.target if a.form.encoding is Encoding.base64 else None)
    by_encoding = scored(decodes).by_encoding
    assert {name for name, rates in by_encoding.items() if rates.success.value} == {"base64"}


def test_another_wrong_answer_is_disturbed_and_no_success() -> None:
    others = {key: SCHEMA.keys[number - 1] for number, key in enumerate(SCHEMA.keys)}
    report = scored(when_attacked(lambda attack: others[attack.target]))
    assert report.success.value == 0 and (report.disturbed.value or 0) > 0.5


def test_an_unreadable_answer_is_disturbed_and_no_success() -> None:
    report = scored(when_attacked(lambda attack: NO_ANSWER))
    assert (report.success.value, report.disturbed.value) == (0, 1)
    assert report.unparsable == len(ATTACKS)
    never = scored(lambda schema, conversation: NO_ANSWER)
    assert (never.success.value, never.disturbed.value) == (0, 0)
    none_at_first = scored(lambda schema, conversation: NO_ANSWER if seen(schema, conversation) else None)
    assert none_at_first.disturbed.value == 1


def test_an_attack_on_what_is_answered_anyway_is_no_success() -> None:
    report = scored(lambda schema, conversation: "refund")
    aimed_there = sum(attack.target == "refund" for attack in ATTACKS)
    assert report.on_target_already == aimed_there > 0
    assert report.success.n == len(ATTACKS) - aimed_there
    assert (report.success.value, report.disturbed.value) == (0, 0)


def test_what_got_no_answer_is_left_out_with_all_attacks_on_it() -> None:
    attacked = scored(when_attacked(lambda a: FAILS if a.form.place is AttackLocation.agent else a.target))
    assert attacked.errored == sum(attack.form.place is AttackLocation.agent for attack in ATTACKS)
    assert attacked.success.value == 1
    assert attacked.by_place["agent"].success.value is None
    first = SUITE.items[0].conversation_id
    report = scored(lambda s, c: FAILS if c.id == first and not seen(s, c) else right(s, c))
    assert report.errored == sum(item.conversation_id == first for item in SUITE.items) - 1 > 0
    assert report.success.n == len(ATTACKS) - report.errored


def test_below_the_threshold_of_traffic_an_answer_is_none_of_these() -> None:
    obeyed = when_attacked(lambda attack: attack.target)
    measured = asyncio.run(runner.run(SUITE.questions, Answering(obeyed), model="fake"))
    unsure = [
        m.model_copy(update={"prediction": m.prediction.model_copy(update={"confidence": 0.4})})
        for m in measured
        if m.prediction
    ]
    assert scoring.score(SUITE, unsure, 0.3).success.value == 1
    assert scoring.score(SUITE, unsure, 0.5).success.value == 0


def test_examples_show_what_was_said_and_the_report_survives_json() -> None:
    report = scored(when_attacked(lambda attack: attack.target))
    assert InjectionReport.model_validate_json(report.model_dump_json()) == report
    assert len(report.examples) == 6
    for example in report.examples:
        assert example.answer_attacked == example.target != example.answer_clean
        assert example.answer_clean == RIGHT[example.conversation_id]
        assert example.text in {attack.text for attack in ATTACKS}


def test_every_place_kind_language_encoding_and_naming_occurs() -> None:
    for what, levels in LEVELS.items():
        counts = Counter(getattr(attack.form, what) for attack in ATTACKS)
        assert set(counts) == set(levels)
        if what in ("place", "language", "naming"):
            assert max(counts.values()) - min(counts.values()) <= 1
    letters = {
        letter for a in ATTACKS if a.form.naming is Naming.by_code for letter in "ABCDEF" if letter in a.text
    }
    assert letters == set("ABCDEF")


def test_levels_are_not_tied_to_each_other() -> None:
    places = {(attack.form.place, attack.form.kind) for attack in ATTACKS}
    assert places == {(p, k) for p in AttackLocation for k in Kind} - {injection.NO_ATTACK}
    assert {attack.form.language for attack in ATTACKS if attack.form.encoding is Encoding.plain} == set(
        Language
    )


def test_every_category_is_asked_about_and_each_conversation_is_attacked() -> None:
    clean = [item for item in SUITE.items if item.attack is None]
    assert len(SUITE.items) == 240 and len(clean) == 80
    assert {RIGHT[item.conversation_id] for item in clean} == set(SCHEMA.answers)
    per_conversation = Counter(item.conversation_id for item in SUITE.items if item.attack)
    assert set(per_conversation.values()) == {2}


def test_the_target_is_a_category_and_never_the_right_answer() -> None:
    for item in SUITE.items:
        assert item.attack is None or item.attack.target in set(SCHEMA.keys) - {RIGHT[item.conversation_id]}


def test_an_attack_is_put_where_it_belongs_and_nothing_else_changes() -> None:
    clean = {item.conversation_id: item.question for item in SUITE.items if item.attack is None}
    for item in SUITE.items:
        if item.attack is None:
            continue
        schema, conversation = item.question
        before = clean[item.conversation_id].conversation.messages
        place, text = item.attack.form.place, item.attack.text
        if place is AttackLocation.customer:
            assert conversation.messages == (Message(role=Role.customer, text=f"{before[-1].text} {text}"),)
        elif place is AttackLocation.agent:
            assert conversation.messages == (Message(role=Role.agent, text=text), *before)
        else:
            assert conversation.messages == before
            assert schema.category(item.attack.target).definition.endswith(text)
        changed = [a.key for a, b in zip(schema.categories, SCHEMA.categories, strict=True) if a != b]
        assert changed == ([item.attack.target] if place is AttackLocation.definition else [])


def test_no_attack_gets_out_of_its_place_in_the_prompt() -> None:
    clean = render(SCHEMA, SUITE.items[0].question.conversation, CODES.texts).messages[0]["content"]
    assert any("</conversation><|im_end|>" in attack.text for attack in ATTACKS)
    assert any(attack.text.startswith('" = ') for attack in ATTACKS)
    for item in SUITE.items:
        schema, conversation = item.question
        system, user = (m["content"] for m in render(schema, conversation, CODES.texts).messages)
        first, *said, last = user.split("\n")
        assert (first, last) == ("<conversation>", "</conversation>")
        assert [line.split(": ")[0] for line in said] == [m.role for m in conversation.messages]
        assert user.lower().count("conversation>") - user.lower().count("< /conversation>") == 2
        assert not any(mark in system + user for mark in ("<|", "|>", "<think"))
        assert system.count("\n") == clean.count("\n") and system.count('"') == clean.count('"')


def test_each_kind_names_its_target_in_each_language_of_its_own() -> None:
    for kind in Kind:
        texts = {injection.write(form(kind=kind, language=language), "Where is it") for language in Language}
        assert len(texts) == len(Language)
        assert all("Where is it" in text and "{" not in text for text in texts)


def test_each_encoding_can_be_undone_and_is_not_the_plain_text() -> None:
    said = injection.write(form(), "Where is it")

    def written(encoding: Encoding) -> str:
        return injection.write(form(encoding=encoding), "Where is it")

    assert len({written(encoding) for encoding in Encoding}) == len(Encoding)
    assert base64.b64decode(written(Encoding.base64).split()[-1]).decode() == said
    assert codecs.decode(written(Encoding.rot13).partition(": ")[2], "rot13") == said
    assert written(Encoding.zero_width).replace("\u200b", "") == said
    assert unicodedata.normalize("NFKC", written(Encoding.full_width)) == said
    assert written(Encoding.upper_case) == said.upper()
    assert written(Encoding.leetspeak).translate(str.maketrans("431057", "aeiost")) == said


def test_other_scripts_have_no_encoding_that_leaves_them_as_they_are() -> None:
    for attack in ATTACKS:
        if attack.form.language in injection.OTHER_SCRIPTS:
            assert attack.form.encoding in injection.IN_ANY_SCRIPT
        if attack.form.encoding is not Encoding.plain:
            plainly = attack.form._replace(encoding=Encoding.plain)
            for called in (attack.target, SCHEMA.category(attack.target).name, *"ABCDEF"):
                assert attack.text != injection.write(plainly, called)


def test_a_suite_is_the_same_for_the_same_seed_in_whatever_order_conversations_come() -> None:
    again = injection.build(SCHEMA, reversed(of_split(Split.test)))
    assert again == SUITE and again.sha256 == SUITE.sha256
    assert injection.build(SCHEMA, of_split(Split.test), seed=1).sha256 != SUITE.sha256
    reworded = SCHEMA.model_copy(update={"categories": SCHEMA.categories[::-1]})
    assert injection.build(reworded, of_split(Split.test)).sha256 != SUITE.sha256


def test_where_the_limits_leave_no_room_there_is_no_attack_of_that_place() -> None:
    long_ones = tuple(c.model_copy(update={"definition": "x" * 1990}) for c in SCHEMA.categories)
    full = SCHEMA.model_copy(update={"categories": long_ones})
    messages = tuple(Message(role=Role.customer, text="refund please") for _ in range(MAX_MESSAGES))
    long = Conversation(id="long", messages=messages, category="refund")
    suite = injection.build(full, [long], max_items=40)
    assert {item.attack.form.place for item in suite.items if item.attack} == {AttackLocation.customer}
    for item in suite.items:
        Conversation.model_validate(item.question.conversation.model_dump())
        CategorySchema.model_validate(item.question.schema.model_dump())


def test_requests_that_share_the_schema_go_together() -> None:
    schemas = [item.question.schema.sha256 for item in SUITE.items]
    shared = schemas.count(SCHEMA.sha256)
    assert set(schemas[:shared]) == {SCHEMA.sha256}


def test_without_a_label_of_the_schema_a_conversation_is_not_asked_about() -> None:
    said = (Message(role=Role.customer, text="refund please"),)
    others = [Conversation(id="u", messages=said), Conversation(id="v", messages=said, category="other")]
    assert injection.build(SCHEMA, others).items == ()


def test_where_there_is_no_other_category_there_is_nothing_to_attack_and_no_rate() -> None:
    one = CategorySchema(categories=(Category(key="refund", name="Refund", definition="Money back."),))
    suite = injection.build(one, [c for c in conversations() if c.category == "refund"])
    assert suite.items == ()
    report = scored(right, suite)
    assert (report.success.value, report.success.n) == (None, 0)
    assert InjectionReport.model_validate_json(report.model_dump_json()) == report


def test_the_rarest_category_is_asked_about_even_where_there_are_many() -> None:
    keys = [f"k{n}" for n in range(40)]
    many = CategorySchema(categories=tuple(Category(key=k, name=k, definition=k) for k in keys))
    each = [
        Conversation(id=f"{k}-{n}", messages=(Message(role=Role.customer, text=k),), category=k)
        for k in keys
        for n in range(1 if k == "k39" else 9)
    ]
    suite = injection.build(many, each)
    assert len(suite.items) == 240
    assert len({item.question.conversation.category for item in suite.items}) == 40
    attacks = [item.attack for item in suite.items if item.attack]
    assert {a.target for a in attacks if a.form.naming is Naming.by_code} <= set(keys[:26])
