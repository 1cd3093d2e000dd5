import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from evaluation.contract.schema import CategorySchema
from training.config import Distill, Rl, Sft, Stage, StageManifest, Traces

ROOT = Path(__file__).parents[2]


def manifest(schema: CategorySchema, **changes: Any) -> dict[str, Any]:
    return {
        "stage": {"kind": "rl"},
        "base": "base",
        "category_schema": schema.model_dump(mode="json"),
        "conversations": "train.jsonl",
        "out": "out",
    } | changes


@pytest.mark.parametrize(
    ("kind", "wanted"), [("traces", Traces), ("sft", Sft), ("distill", Distill), ("rl", Rl)]
)
def test_a_stage_is_known_by_its_kind_and_needs_nothing_else(kind: str, wanted: type) -> None:
    assert isinstance(TypeAdapter(Stage).validate_python({"kind": kind}), wanted)


def test_a_setting_that_does_not_exist_is_refused(schema: CategorySchema) -> None:
    with pytest.raises(ValidationError, match="learning_rte"):
        StageManifest.model_validate(manifest(schema, stage={"kind": "sft", "learning_rte": 1.0}, traces="t"))


def test_sft_without_traces_is_refused_before_anything_runs(schema: CategorySchema) -> None:
    with pytest.raises(ValidationError, match="traces"):
        StageManifest.model_validate(manifest(schema, stage={"kind": "sft"}))


@pytest.mark.parametrize(
    "stage",
    [
        {"kind": "rl", "batch_size": 60, "micro_batch_size": 60, "generations": 8},
        {"kind": "distill", "batch_size": 32, "micro_batch_size": 12},
    ],
)
def test_batches_that_do_not_divide_are_refused(stage: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="not a multiple"):
        TypeAdapter(Stage).validate_python(stage)


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (
            {"kind": "traces", "teachers": [{"kind": "privileged", "hint": "demonstration"}]},
            "no demonstrations before there are traces",
        ),
        ({"kind": "distill", "on_policy": False}, "shown the very trace that is learned"),
        ({"kind": "distill", "hint": "document"}, "contexts: give them"),
        ({"kind": "distill", "contexts": "c.jsonl"}, "contexts: give them"),
        (
            {"kind": "traces", "teachers": [{"kind": "privileged", "hint": "document"}]},
            "documents are shown in distillation alone",
        ),
        ({"kind": "rl", "teacher_weight": 1.0, "hint": "document"}, "no documents"),
        ({"kind": "rl", "importance_sampling": "sequence"}, "updates_per_generation of 2 or more"),
        ({"kind": "distill", "prompts": "p.jsonl", "hint": "criterion"}, "prompts: general prompts"),
        ({"kind": "distill", "prompts": "p.jsonl", "teacher": "ema", "hint": "none"}, "prompts: general"),
        ({"kind": "distill", "max_new_tokens": 161}, "max_new_tokens: serving reads 160"),
        ({"kind": "sft", "prompts": "p.jsonl", "text": "t.jsonl"}, "give one of the two"),
        ({"kind": "sft", "prompts": "p.jsonl", "perturb": True}, "prompts: it holds no schema"),
    ],
)
def test_a_hint_that_cannot_be_given_or_would_be_copied_is_refused(stage: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TypeAdapter(Stage).validate_python(stage)


def test_off_policy_the_traces_that_are_learned_are_no_demonstrations(
    schema: CategorySchema, tmp_path: Path
) -> None:
    traces, link, other = (tmp_path / name for name in ("traces.jsonl", "link.jsonl", "other.jsonl"))
    traces.touch()
    link.symlink_to(traces)

    def made(file: Path, **settings: Any) -> StageManifest:
        stage = {"kind": "distill", "on_policy": False, "demonstrations": str(file)} | settings
        return StageManifest.model_validate(manifest(schema, stage=stage, traces=str(traces)))

    for file in (traces, link, tmp_path / "." / ".." / tmp_path.name / "traces.jsonl"):
        with pytest.raises(ValidationError, match="demonstrations: they are the traces"):
            made(file)
        made(file, on_policy=True)
        made(file, hint="criterion")
    made(other)


def test_general_prompts_may_have_a_teacher_that_is_shown_a_text_of_each_and_answers_of_any_length() -> None:
    asked = {"kind": "distill", "prompts": "p.jsonl", "contexts": "c.jsonl", "hint": "document"}
    made = TypeAdapter(Stage).validate_python(asked | {"max_new_tokens": 400})
    assert isinstance(made, Distill) and made.teacher == "ema" and made.max_new_tokens == 400


def test_sft_on_general_prompts_needs_no_traces(schema: CategorySchema) -> None:
    for name in ("prompts", "text"):
        made = StageManifest.model_validate(manifest(schema, stage={"kind": "sft", name: "p.jsonl"}))
        assert isinstance(made.stage, Sft) and not made.stage.reads_traces and not made.stage.perturb
        assert StageManifest.model_validate_json(made.model_dump_json()) == made


def test_a_manifest_survives_json_with_the_same_digest(schema: CategorySchema) -> None:
    made = StageManifest.model_validate(manifest(schema))
    again = StageManifest.model_validate_json(made.model_dump_json())
    assert again == made
    assert again.sha256 == made.sha256
    assert StageManifest.model_validate(manifest(schema, seed=1)).sha256 != made.sha256


def test_the_digest_names_files_as_seen_from_the_output_so_that_both_can_be_moved_together(
    schema: CategorySchema,
) -> None:
    def digest(root: str, inputs: str = "inputs/a1", stage: str = "1-traces") -> str:
        files = {"conversations": f"{root}/{inputs}/train.jsonl", "out": f"{root}/stages/2-rl"}
        traces = f"{root}/stages/{stage}/traces.jsonl"
        return StageManifest.model_validate(manifest(schema, traces=traces) | files).sha256

    assert digest("/here/out") == digest("/there/deeper/out")
    assert digest("/here/out") != digest("/here/out", inputs="inputs/b2")
    assert digest("/here/out") != digest("/here/out", stage="2-traces")


def test_a_key_is_named_and_never_stored() -> None:
    teacher = {"kind": "endpoint", "base_url": "https://t", "model": "m"}
    stage = {"kind": "traces", "teachers": [teacher]}
    assert isinstance(TypeAdapter(Stage).validate_python(stage), Traces)
    teacher["api_key"] = "secret"
    with pytest.raises(ValidationError, match="api_key"):
        TypeAdapter(Stage).validate_python(stage)


@pytest.mark.seconds
def test_a_manifest_is_checked_before_torch_is_imported(schema: CategorySchema, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest(schema, stage={"kind": "sft"})))
    code = (
        "import sys; from training.__main__ import main; "
        f"status = main(['run', {str(path)!r}]); print(status, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]
    assert "traces" in done.stderr


def test_a_path_may_be_given_and_may_not_be_endless() -> None:
    """A bound that Pydantic has no idea how to apply was an error 500, and ended every run with files of traces."""
    assert Traces(files=(Path("experts.jsonl"),)).files == (Path("experts.jsonl"),)
    for given in ("x" * 5000, "/" + "y/" * 2500):
        with pytest.raises(ValidationError, match="at most"):
            Traces(files=(Path(given),))


@pytest.mark.seconds
def test_how_cores_are_shared_is_said_before_torch_is_imported() -> None:
    """Its threads read it once, when they are loaded."""
    code = (
        "import os, sys, training.__main__ as stage; stage._keep_to_this_machine(); "
        "print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["PASSIVE", "False"]
