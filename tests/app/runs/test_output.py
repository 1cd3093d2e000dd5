"""What a second run of the same command takes over, and what it must not."""

import fcntl
import json
import shutil
from pathlib import Path

import pytest

from app.errors import InputError, NoSpace, OutputBusy
from app.runs import output
from app.runs.inputs import Inputs, checked
from evaluation.contract.record import Conversation, Split
from evaluation.contract.schema import parse_schema
from training.config import Distill, Rl, Sft, StageManifest, Traces

SCHEMA = parse_schema(
    {"categories": [{"key": k, "name": k, "definition": f"about {k}"} for k in ("refund", "delivery")]}
)


def inputs(text: str = "message") -> Inputs:
    def one(split: Split, number: int) -> Conversation:
        return Conversation.model_validate(
            {
                "id": f"{split}{number}",
                "category": ("refund", "delivery")[number % 2],
                "split": split,
                "messages": [{"role": "customer", "text": f"{text} {number} for {split}"}],
            }
        )

    return checked(SCHEMA, [one(s, n) for s in (Split.train, Split.test) for n in range(24)])


def manifests(root: Path, steps: int = 5) -> list[StageManifest]:
    stages = (Traces(), Sft(max_steps=steps), Distill(), Rl())
    return [
        StageManifest(
            stage=stage,
            base="base",
            category_schema=SCHEMA,
            conversations=root / "train.jsonl",
            traces=root / "traces.jsonl" if stage.kind == "sft" else None,
            out=root / "stages" / stage.kind,
        )
        for stage in stages
    ]


def finish(manifest: StageManifest) -> None:
    """What a stage leaves when it has succeeded."""
    made = (
        ["traces.jsonl"]
        if manifest.stage.kind == "traces"
        else ["adapter_model.safetensors", "adapter_config.json"]
    )
    folder = manifest.out if manifest.stage.kind == "traces" else manifest.out / "adapter"
    folder.mkdir(parents=True, exist_ok=True)
    for name in made:
        (folder / name).write_text("made")
    result = {"status": "succeeded", "manifest_sha256": manifest.sha256}
    (manifest.out / "result.json").write_text(json.dumps(result))


def run_all(root: Path, steps: int = 5, stop_after: str | None = None) -> list[str]:
    """The loop of the job; returns the stages that it had to run."""
    ran, wanted = [], manifests(root, steps)
    for position, manifest in enumerate(wanted):
        if output.finished(manifest):
            continue
        output.prepare(manifest, [later.out for later in wanted[position + 1 :]])
        ran.append(manifest.stage.kind)
        if manifest.stage.kind == stop_after:
            return ran
        finish(manifest)
    return ran


def test_a_second_run_repeats_nothing(tmp_path: Path) -> None:
    assert run_all(tmp_path) == ["traces", "sft", "distill", "rl"]
    assert run_all(tmp_path) == []


def test_a_stopped_run_goes_on_with_the_stage_that_was_stopped(tmp_path: Path) -> None:
    assert run_all(tmp_path, stop_after="distill") == ["traces", "sft", "distill"]
    assert run_all(tmp_path) == ["distill", "rl"]


def test_a_stopped_stage_keeps_its_checkpoints(tmp_path: Path) -> None:
    run_all(tmp_path, stop_after="distill")
    (tmp_path / "stages/distill/checkpoints").mkdir()
    run_all(tmp_path, stop_after="distill")
    assert (tmp_path / "stages/distill/checkpoints").is_dir()


def test_a_run_goes_on_in_a_folder_that_was_moved(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    run_all(here, stop_after="distill")
    (here / "stages/distill/checkpoints").mkdir()
    here.rename(there)
    assert run_all(there, stop_after="distill") == ["distill"]
    assert (there / "stages/distill/checkpoints").is_dir()
    assert str(there) in (there / "stages/distill/manifest.json").read_text()
    assert run_all(there) == ["distill", "rl"]
    there.rename(here)
    assert run_all(here) == []


def test_what_a_manifest_of_another_version_left_is_not_gone_on_with(tmp_path: Path) -> None:
    run_all(tmp_path, stop_after="distill")
    (tmp_path / "stages/distill/checkpoints").mkdir()
    (tmp_path / "stages/distill/manifest.json").write_text('{"stage": {"kind": "of old"}}')
    assert run_all(tmp_path, stop_after="distill") == ["distill"]
    assert not (tmp_path / "stages/distill/checkpoints").exists()


def test_a_changed_setting_runs_its_stage_and_every_later_one_again(tmp_path: Path) -> None:
    run_all(tmp_path)
    (tmp_path / "stages/sft/checkpoints").mkdir()
    assert run_all(tmp_path, steps=6) == ["sft", "distill", "rl"]
    assert not (tmp_path / "stages/sft/checkpoints").exists()


def test_a_stage_that_learned_from_a_replaced_one_is_not_taken_over(tmp_path: Path) -> None:
    """Stopped right after the changed stage: the later results fit their manifests, but not what they learned from."""
    run_all(tmp_path)
    assert run_all(tmp_path, steps=6, stop_after="sft") == ["sft"]
    finish(manifests(tmp_path, steps=6)[1])
    assert run_all(tmp_path, steps=6) == ["distill", "rl"]


def test_a_stage_whose_adapter_is_gone_is_run_again(tmp_path: Path) -> None:
    run_all(tmp_path)
    shutil.rmtree(tmp_path / "stages/distill/adapter")
    assert run_all(tmp_path) == ["distill", "rl"]


def test_a_failed_stage_is_run_again(tmp_path: Path) -> None:
    run_all(tmp_path)
    result = tmp_path / "stages/rl/result.json"
    result.write_text(result.read_text().replace("succeeded", "failed"))
    assert run_all(tmp_path) == ["rl"]


def test_other_conversations_or_another_base_start_over(tmp_path: Path) -> None:
    with output.opened(tmp_path / "out", 0) as place:
        output.start_over_if_changed(place, "key one")
        run_all(place.root)
        output.start_over_if_changed(place, "key one")
        assert run_all(place.root) == []
        output.start_over_if_changed(place, "key two")
        assert run_all(place.root) == ["traces", "sft", "distill", "rl"]


def test_inputs_lie_under_a_name_made_from_their_content(tmp_path: Path) -> None:
    with output.opened(tmp_path / "out", 0) as place:
        first, other = output.write_inputs(place, inputs()), output.write_inputs(place, inputs("another"))
        assert first != other
        assert len((first / "train.jsonl").read_text().splitlines()) == 24
        assert not (first / "validation.jsonl").exists()


def test_two_runs_cannot_share_a_directory(tmp_path: Path) -> None:
    with output.opened(tmp_path / "out", 0), pytest.raises(OutputBusy), output.opened(tmp_path / "out", 0):
        pass
    with (
        output.opened(tmp_path / "out", 0),
        (tmp_path / "out/.lock").open() as lock,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_directory_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("precious")
    with pytest.raises(InputError, match="holds something else"), output.opened(tmp_path, 0):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.doc"]
    with pytest.raises(InputError, match="is a file"), output.opened(tmp_path / "thesis.doc", 0):
        pass


def test_too_little_space_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(NoSpace, match="MiB free"), output.opened(tmp_path / "out", 1 << 40):
        pass
    assert not (tmp_path / "out").exists()


def test_a_mark_that_was_torn_counts_as_no_mark(tmp_path: Path) -> None:
    with output.opened(tmp_path / "out", 0) as place:
        output.set_state(place, key="a")
        assert output.state(place) == {"key": "a"}
        (place.root / "run.json").write_text('{"ke')
        assert output.state(place) == {}
