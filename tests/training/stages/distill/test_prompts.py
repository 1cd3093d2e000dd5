"""What a teacher is shown: the trace that is learned, somebody else's, or a text of each conversation's own."""

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evaluation.contract.render import render
from tests.training.shop import Tenant
from tests.training.stages.distill.test_trainer import SETTINGS
from training.artifacts import StageFailed
from training.config import Distill, StageManifest
from training.data.examples import Trace
from training.engine.model import load_tokenizer
from training.stages.distill.prompts import counts_of, general_rows, rows_of


def manifest_of(tenant: Tenant, base: Path, traces: Path | None, **settings: Any) -> StageManifest:
    stage = {"kind": "distill", "steps": 3, **SETTINGS, "perturb": False, "micro_batch_size": 4, **settings}
    return StageManifest.model_validate(
        {
            "stage": stage,
            "base": str(base),
            "category_schema": tenant.schema,
            "conversations": str(tenant.path),
            "traces": traces and str(traces),
            "out": str(tenant.path.parent / "out"),
        }
    )


def rows(tenant: Tenant, base: Path, traces: Path | None, **settings: Any) -> list[dict[str, Any]]:
    manifest = manifest_of(tenant, base, traces, **settings)
    assert isinstance(manifest.stage, Distill)
    loaded: Any = SimpleNamespace(tokenizer=load_tokenizer(str(base)))
    return rows_of(manifest, manifest.stage, loaded)


def written(tenant: Tenant, folder: Path, text: str) -> Path:
    """A traces.jsonl in which somebody answers every conversation in these words."""
    file, rng = folder / "demonstrations.jsonl", random.Random(1)
    lines = []
    for one in tenant.conversations:
        codes = tuple(rng.sample("ABCDEFGHKLMNPQ", len(tenant.schema.answers)))
        answer = f"{text}\nAnswer: {codes[tenant.schema.answers.index(one.category)]}"
        prompt = render(tenant.schema, one, codes).messages
        lines.append(json.dumps(Trace(one.id, prompt, answer, codes, one.category, "expert", 0).as_row()))
    file.write_text("\n".join(lines))
    return file


def test_off_policy_the_teacher_may_be_shown_what_somebody_else_wrote(
    tenant: Tenant, base: Path, traces: Path, tmp_path: Path
) -> None:
    other = written(tenant, tmp_path, "An expert saw it at a glance.")
    found = rows(tenant, base, traces, on_policy=False, hint="demonstration", demonstrations=str(other))
    for row in found:
        shown = row["teacher_prompt"][-1]["content"]
        code = row["example"].gold_code
        assert row["completion"].startswith("They write that") and row["completion"].endswith(code)
        assert f"An expert saw it at a glance.\nAnswer: {code}\n" in shown
        assert "They write that" not in shown and "An expert" not in row["prompt"][-1]["content"]


@pytest.mark.parametrize("on_policy", [True, False])
def test_prompts_whose_teacher_is_shown_the_criterion_for_want_of_a_demonstration_are_counted(
    on_policy: bool, tenant: Tenant, base: Path, traces: Path, tmp_path: Path
) -> None:
    """Also where the student learns on a trace of the conversation, which is another's than the demonstrations."""
    file = written(tenant, tmp_path, "An expert saw it at a glance.")
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[::2]))
    shown = {json.loads(line)["id"] for line in lines[::2]}
    rollouts = 2 if on_policy else 1
    given = {"hint": "demonstration", "demonstrations": str(file), "rollouts": rollouts}
    found = rows(tenant, base, traces, on_policy=on_policy, **given)
    without = [row for row in found if row["example"].conversation.id not in shown]
    assert 0 < len(without) < len(found)
    assert all("An expert saw" not in row["teacher_prompt"][-1]["content"] for row in without)
    counts = counts_of(found, rollouts)
    assert counts["prompts"] == len(found) // rollouts
    assert counts["without_demonstration"] == len(without) // rollouts
    plain = counts_of(rows(tenant, base, traces, on_policy=on_policy, hint="criterion"), rollouts=1)
    assert plain["without_demonstration"] == 0


def test_on_policy_demonstrations_come_from_their_own_file_where_there_is_one(
    tenant: Tenant, base: Path, traces: Path, tmp_path: Path
) -> None:
    other = written(tenant, tmp_path, "An expert saw it at a glance.")
    for given, said in ({}, "They write that"), ({"demonstrations": str(other)}, "An expert saw"):
        for row in rows(tenant, base, traces, hint="demonstration", **given):
            assert said in row["teacher_prompt"][-1]["content"]


def test_each_conversation_has_a_document_of_its_own_and_those_without_are_left_out(
    tenant: Tenant, base: Path, tmp_path: Path
) -> None:
    contexts = tmp_path / "contexts.jsonl"
    known = {one.id: f"Case {one.id} was closed." for one in tenant.conversations[:5]}
    contexts.write_text("\n".join(json.dumps({"id": key, "text": text}) for key, text in known.items()))
    found = rows(tenant, base, None, hint="document", contexts=str(contexts))
    seen = set()
    for row in found:
        key = row["example"].conversation.id
        seen.add(key)
        shown = row["teacher_prompt"][-1]["content"]
        assert f"\nThis is known:\n{known[key]}\n" in shown
        assert known[key] not in row["prompt"][-1]["content"]
    assert seen == set(known)
    contexts.write_text(json.dumps({"id": "nobody", "text": "x"}))
    with pytest.raises(StageFailed, match="traces, contexts"):
        rows(tenant, base, None, hint="document", contexts=str(contexts))


def test_the_teacher_of_a_general_prompt_reads_the_text_that_has_its_id(
    tenant: Tenant, base: Path, tmp_path: Path
) -> None:
    prompts, contexts = tmp_path / "prompts.jsonl", tmp_path / "contexts.jsonl"
    asked = {
        key: [{"role": "system", "content": "s"}, {"role": "user", "content": f"Who is {key}?"}]
        for key in "abc"
    }
    prompts.write_text("\n".join(json.dumps({"id": key, "messages": said}) for key, said in asked.items()))
    contexts.write_text("\n".join(json.dumps({"id": key, "text": f"{key} is new."}) for key in "ca"))
    of = {"hint": "document", "prompts": str(prompts), "contexts": str(contexts), "max_new_tokens": 300}
    manifest = manifest_of(tenant, base, None, **of)
    assert isinstance(manifest.stage, Distill)
    found = general_rows(manifest, manifest.stage)
    assert len(found) == manifest.stage.steps * manifest.stage.batch_size
    for row in found:
        said = row["prompt"][-1]["content"]
        key = said[7]
        assert key in "ac" and row["prompt"] == asked[key]
        assert row["teacher_prompt"][0] == asked[key][0]
        assert row["teacher_prompt"][-1]["content"].startswith(f"{said}\nThis is known:\n{key} is new.\n")
    contexts.write_text(json.dumps({"id": "nobody", "text": "x"}))
    with pytest.raises(StageFailed, match="no prompt of"):
        general_rows(manifest, manifest.stage)
