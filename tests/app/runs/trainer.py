"""A stage's process as the product starts it, whose training is quick: `python trainer.py run MANIFEST.json`.

It reads what the real one reads, writes what the real one writes, in the same order and through the same functions,
and heeds its checkpoints. What happens in it is told by files in the folder that STEERWISE_TEST_PLAY names:
`<kind>.fail` (a result that failed, as JSON), `<kind>.die`, `<kind>.stop_at` (waits after that step until
`<kind>.go_on` is there), `aloud` (it repeats what it reads wherever a real one might). It leaves a line in `starts`
each time: kind and the step that it began with.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from training.artifacts import latest_checkpoint, mark_complete, write_json, write_jsonl
from training.config import StageManifest
from training.engine.progress import EventWriter
from training.teachers.paid import PaidAnswers, Reply

STEPS = 6
PLAY = Path(os.environ["STEERWISE_TEST_PLAY"])
PREFIX = "base_model.model.model.layers.0.self_attn.q_proj"


def main() -> int:
    manifest = StageManifest.model_validate_json(Path(sys.argv[2]).read_bytes())
    kind, out = manifest.stage.kind, manifest.out
    read = [json.loads(line) for line in manifest.conversations.read_text().splitlines()]
    assert {row["split"] for row in read} == {"train"}, "training reads what the gate asks"
    if manifest.traces is not None:
        assert manifest.traces.read_text()
    if manifest.adapter is not None:
        assert (manifest.adapter / "adapter_model.safetensors").is_file()
    print(f"{kind} reads {manifest.conversations}", flush=True)
    said = (
        [message["text"] for row in read for message in row["messages"]] if (PLAY / "aloud").exists() else []
    )
    print(*said, sep="\n", flush=True)
    if said and manifest.answers is not None:
        PaidAnswers(manifest.answers).keep({"about": said}, Reply("\n".join(said), 1, 1))
    events = EventWriter(out, kind)
    events.write("started", message=f"stage {kind} on {manifest.base}")
    checkpoint = latest_checkpoint(out, manifest.sha256)
    step = 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2])
    with (PLAY / "starts").open("a") as starts:
        starts.write(f"{kind} {step}\n")
    message = f"resuming from {checkpoint.name}" if checkpoint else "training"
    events.write("progress", step=0, total_steps=STEPS, message=message)
    while step < STEPS:
        step += 1
        events.write("metric", step=step, total_steps=STEPS, metrics={"loss": 1 / step})
        keep(manifest, step, said)
        wait(kind, step)
    if (PLAY / f"{kind}.die").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    if (PLAY / f"{kind}.fail").exists():
        return end(manifest, json.loads((PLAY / f"{kind}.fail").read_text()), 1)
    make(manifest, said)
    return end(manifest, {"status": "succeeded", "metrics": {"loss_last": 1 / STEPS}}, 0)


def keep(manifest: StageManifest, step: int, said: list[str]) -> None:
    folder = manifest.out / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "state").write_text(str(step))
    (folder / "said").write_text("\n".join(said))
    mark_complete(folder, manifest.sha256)


def wait(kind: str, step: int) -> None:
    stop_at = PLAY / f"{kind}.stop_at"
    deadline = time.monotonic() + 100
    while (
        stop_at.exists()
        and step == int(stop_at.read_text())
        and not (PLAY / f"{kind}.go_on").exists()
        and time.monotonic() < deadline
    ):
        time.sleep(0.05)


def make(manifest: StageManifest, said: list[str]) -> None:
    if manifest.stage.kind == "traces":
        write_jsonl(manifest.out / "traces.jsonl", [{"id": "c1", "completion": "Answer: A", "quoted": said}])
        return
    folder = manifest.out / "adapter"
    folder.mkdir(exist_ok=True)
    rank = manifest.stage.lora.rank
    config = {"peft_type": "LORA", "r": rank, "target_modules": ["q_proj"], "bias": "none"}
    write_json(folder / "adapter_config.json", config)
    value = len(manifest.stage.kind)  # another adapter for each stage
    matrices = {
        f"{PREFIX}.lora_A.weight": np.full((rank, 8), value, np.float32),
        f"{PREFIX}.lora_B.weight": np.full((8, rank), value, np.float32),
    }
    save_file(matrices, folder / "adapter_model.safetensors")


def end(manifest: StageManifest, told: dict[str, Any], code: int) -> int:
    body = {
        "code": None,
        "message": "",
        "stage": manifest.stage.kind,
        "step": STEPS,
        "tokens": 1000,
        "wall_s": 1.5,
        "manifest_sha256": manifest.sha256,
        "metrics": {},
    }
    write_json(manifest.out / "result.json", body | told)
    return code


if __name__ == "__main__":
    sys.exit(main())
