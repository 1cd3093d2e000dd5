"""Presets hold what the stages' settings allow, and `--set` changes one of them or says why not."""

import re
from pathlib import Path

import pytest

from app.errors import InputError
from app.runs.presets import Preset, explain, plan
from app.settings import Settings
from evaluation.gating.coverage import too_few
from evaluation.gating.policy import load_policy
from evaluation.suites import steerability
from training.base import businesses


@pytest.mark.parametrize("preset", list(Preset))
def test_every_preset_is_a_whole_plan(preset: Preset) -> None:
    assert [stage.kind for stage in plan(preset).stages] == ["traces", "sft", "distill", "rl"]


@pytest.mark.parametrize(("preset", "minutes"), [(Preset.demo, 11), (Preset.cpu, 60)])
def test_stages_are_limited_to_what_leaves_time_for_the_evaluation(preset: Preset, minutes: int) -> None:
    """Of the demo, whose gate comes on top, and of the ninety that `cpu` says."""
    seconds = [stage.max_seconds for stage in plan(preset).stages]
    assert sum(s for s in seconds if s is not None) <= 60 * minutes
    assert None not in seconds


@pytest.mark.parametrize("preset", list(Preset))
def test_the_adapters_of_every_preset_can_be_served(preset: Preset) -> None:
    assert plan(preset).sft.lora.rank <= Settings().vllm_max_lora_rank


@pytest.mark.parametrize("preset", [Preset.smoke, Preset.demo, Preset.cpu, Preset.standard])
def test_on_a_cpu_a_micro_batch_reads_one_schema(preset: Preset) -> None:
    """With several the memory of a training step would grow with the schema as many times over."""
    chosen = plan(preset)
    for stage in (chosen.sft, chosen.distill):
        assert stage.micro_batch_size <= stage.examples_per_schema
    assert chosen.rl.micro_batch_size // chosen.rl.generations <= 2


def test_a_setting_is_changed_by_its_path_with_the_value_as_toml_or_as_text() -> None:
    changed = plan(Preset.smoke, ["sft.max_steps=9", "sft.lora.rank=4", "rl.loss=grpo", "benchmark.seed = 3"])
    assert (changed.sft.max_steps, changed.sft.lora.rank, changed.rl.loss) == (9, 4, "grpo")
    assert changed.benchmark.seed == 3


def test_an_endpoint_can_be_the_teacher() -> None:
    teacher = '{kind = "endpoint", base_url = "https://teacher.example/v1", model = "large"}'
    assert plan(Preset.standard, [f"traces.teachers=[{teacher}]"]).traces.teachers[0].kind == "endpoint"


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [
        ("sft.epoch=3", "sft.epoch"),
        ("sft.epochs=-1", "sft.epochs"),
        ("sft.epochs=many", "sft.epochs"),
        ("rl.generations=7", "rl"),
        ("train.epochs=3", "train"),
        ("sft.tuning=full", "python -m training run"),
    ],
)
def test_a_setting_that_does_not_exist_or_fit_is_named(assignment: str, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        plan(Preset.smoke, [assignment])
    assert caught.value.exit_code == 2
    assert any(reason in problem for problem in caught.value.details), caught.value.details


@pytest.mark.parametrize("assignment", ["sft", "epochs=3", "sft.=3", "=3", "sft.epochs.deep=3"])
def test_an_assignment_of_another_form_is_refused(assignment: str) -> None:
    with pytest.raises(InputError):
        plan(Preset.demo, [assignment])


@pytest.mark.parametrize("preset", list(Preset))
def test_every_setting_of_a_plan_is_explained(preset: Preset) -> None:
    """What is explained is what is run, and each value says where it was written."""
    found = {one.path: one for one in explain(preset, ["rl.steps=7", "sft.lora.alpha=3"])}
    made = plan(preset, ["rl.steps=7", "sft.lora.alpha=3"])
    assert (found["rl.steps"].value, found["rl.steps"].origin) == (made.rl.steps, "--set") == (7, "--set")
    assert (found["sft.lora.alpha"].value, found["sft.lora.alpha"].origin) == (made.sft.lora.alpha, "--set")
    assert found["benchmark.max_items"].origin == f"preset {preset}"
    assert (found["sft.loss"].value, found["sft.loss"].origin) == ("nll", "default")
    for name in type(made.distill).model_fields:
        assert any(path == f"distill.{name}" or path.startswith(f"distill.{name}.") for path in found), name


def test_the_teachers_of_the_documentation_can_be_used() -> None:
    text = (Path(__file__).parents[3] / "docs" / "training.md").read_text()
    assignments = re.findall(r"--set (?:'([^']+)'|(\S+))", text[text.index("## Traces") :])
    made = plan(Preset.standard, ["".join(pair) for pair in assignments]).traces
    assert [teacher.kind for teacher in made.teachers] == ["privileged", "endpoint"]
    assert made.max_usd == 20 and made.files == (Path("traces.jsonl"),)


def test_the_settings_of_the_documentation_exist() -> None:
    text = (Path(__file__).parents[3] / "docs" / "training.md").read_text()
    gspo = re.search(r"importance_sampling=sequence [^`]+", text)
    assert gspo is not None
    rl = plan(Preset.standard, [f"rl.{setting}" for setting in gspo[0].split()]).rl
    assert (rl.importance_sampling, rl.updates_per_generation) == ("sequence", 4)
    sections = {"## SFT": "sft", "## Distillation": "distill", "## RL": "rl"}
    for title, stage in sections.items():
        section = text[text.index(title) :].split("\n## ", 1)[0]
        rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
        named = [name for row in rows for name in re.findall(r"`(\w+)[`=]", row)]
        fields = type(getattr(plan(Preset.standard), stage)).model_fields
        assert not [name for name in named if name not in fields], stage


@pytest.mark.seconds
@pytest.mark.parametrize("preset", [one for one in Preset if one not in (Preset.smoke, Preset.demo)])
@pytest.mark.parametrize("business", businesses.FOR_GATES)
def test_a_gate_of_every_preset_but_those_that_show_the_way_has_the_examples_that_it_needs(
    preset: Preset, business: str
) -> None:
    """A preset once asked so little that no model could pass: known only after the training. `smoke` and `demo`
    still do, for the time that it takes, and the demo says so before it trains.
    """
    shop = businesses.load()[business]
    schema = businesses.schema_of(shop)
    rows = [businesses.conversation_of(r, r["category"], n) for n, r in enumerate(shop.conversations)]
    suite = steerability.build(schema, rows, max_items=plan(preset).benchmark.max_items)
    assert too_few(suite, load_policy()) == []
