"""Who writes the student's responses: the training process itself, or a vLLM beside it that is handed the adapter.

vLLM's probabilities are not quite the trainer's (other kernels, another precision). Its responses come with those they
were drawn by, and what is learned at a token is weighted by how much likelier it is here (see `losses`).

The adapter is handed over as a file before each batch and the base stays as it is: merged into bf16 weights at every
step, as TRL does it, it drifts.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from peft import PeftModel
from torch import Tensor

from evaluation.contract.render import ChatMessage
from training.artifacts import StageFailed
from training.config import StageManifest
from training.engine.model import STUDENT, load_tokenizer, prompt_tokens, uses_bf16
from training.engine.progress import EventWriter
from training.generation.prefix.rows import together
from training.generation.rollouts import UNWATCHED, Sampling, sample_repeated
from training.protocol import FailureCode
from training.settings import Sampler, Tuning, Writing

if TYPE_CHECKING:
    from vllm import LLM

    from training.engine.trainer import Watch

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # those that vLLM takes as the highest
_LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Drawn(NamedTuple):
    """logps: of each token, by what it was drawn with."""

    completions: list[list[int]]
    logps: list[list[float]]


class Writes:
    """Mixed into trainers whose model writes. Axes: B sequences, T completion tokens (right-padded).

    watch: of a stage that has a deadline, and says how far it is.
    """

    accelerator: Any
    model: Any
    processing_class: Any
    eos_token_ids: list[int]
    args: Any
    sampling: Sampling
    vllm: "VllmSampler | None"
    watch: "Watch | None" = None
    _buffered_inputs: list[dict[str, Any]] | None
    _drawn_by: list[list[float]] | None = None
    _step: int

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """trl's; what an optimizer step learns from is then cut into micro-batches that hold whole rows."""
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)  # type: ignore[misc]
        if self._buffered_inputs is None or self._buffered_inputs is before:
            return inputs
        written, size = self._buffered_inputs, self.args.gradient_accumulation_steps
        of_steps = [written[start : start + size] for start in range(0, len(written), size)]
        self._buffered_inputs = [batch for step in of_steps for batch in together(step)]
        return self._buffered_inputs[self._step % len(written)]

    def write(self, prompts: list[list[int]]) -> list[list[int]]:
        """Raises: TimeUp, rather than give back what the deadline has cut off."""
        completions = self._write(prompts)
        if self.watch is not None:
            self.watch.check()
        return completions

    def _write(self, prompts: list[list[int]]) -> list[list[int]]:
        model = self.accelerator.unwrap_model(self.model)
        if self.vllm is not None:
            completions, self._drawn_by = self.vllm(model, prompts)
            return completions
        pad = self.processing_class.pad_token_id
        watched = UNWATCHED if self.watch is None else self.watch.watched
        return sample_repeated(model, prompts, self.sampling, self.eos_token_ids, pad, watched)

    def _tokenize_prompts(
        self, prompts: list[list[ChatMessage]]
    ) -> tuple[list[list[int]], None, dict[str, Any]]:
        """trl's, with the one rendering that serving and every other stage has. Neither images nor other fields."""
        return [prompt_tokens(self.processing_class, prompt) for prompt in prompts], None, {}

    def drawn_logps(self, completion_ids_BT: Tensor) -> Tensor | None:
        """Those that the last responses were drawn by, (B, T); None where the model itself drew them."""
        if self._drawn_by is None:
            return None
        width = completion_ids_BT.size(1)
        rows = [row + [0.0] * (width - len(row)) for row in self._drawn_by]
        return torch.tensor(rows, device=completion_ids_BT.device)


def sampling_of(stage: Writing) -> Sampling:
    return Sampling(1.0, stage.max_new_tokens, stage.batch_size, uses_bf16(stage.precision))


class VllmSampler:
    """Its engine is a process of its own, in the training's process group, and ends with it."""

    def __init__(self, base: str, rank: int, sampling: Sampling, length: int, memory: float):
        """length: tokens of the longest prompt and its response. memory: share of the GPU.

        Raises: StageFailed where it does not start.
        """
        self._sampling, self._loads = sampling, 0
        self._ends = [load_tokenizer(base).eos_token_id]
        self._folder = tempfile.TemporaryDirectory(prefix="steerwise-sampler-")
        on_gpu = torch.cuda.is_available()
        try:
            self._llm = _engine(
                model=base,
                dtype="bfloat16" if on_gpu else "auto",
                enable_lora=True,
                max_lora_rank=next(allowed for allowed in _RANKS if allowed >= rank),
                max_loras=1,
                max_cpu_loras=1,
                max_model_len=length,
                max_num_seqs=sampling.rows,
                gpu_memory_utilization=memory,
                enforce_eager=not on_gpu,
                disable_log_stats=True,
            )
        except Exception as error:
            raise StageFailed(
                FailureCode.unfit_settings,
                f"vLLM did not start ({str(error)[:300]}; the stage's log has more); change sampler_memory, or set "
                "sampler to `here`",
            ) from error

    def __call__(self, model: PeftModel, prompts: list[list[int]]) -> Drawn:
        """One response to each prompt, with seeds from torch's generator, so that a resumed stage draws the same."""
        from vllm import SamplingParams
        from vllm.lora.request import LoRARequest

        self._loads += 1  # a name is never used twice: no prefix is read from another adapter's cache
        folder = Path(self._folder.name) / str(self._loads)
        model.save_pretrained(str(folder), selected_adapters=[STUDENT])
        seeds = torch.randint(2**31, (len(prompts),)).tolist()
        asked = [
            SamplingParams(
                temperature=self._sampling.temperature,
                max_tokens=self._sampling.max_new_tokens,
                logprobs=0,
                seed=seed,
                stop_token_ids=self._ends,
                detokenize=False,
            )
            for seed in seeds
        ]
        answers = self._llm.generate(
            [{"prompt_token_ids": prompt} for prompt in prompts],
            asked,
            lora_request=LoRARequest(folder.name, self._loads, str(folder)),
            use_tqdm=False,
        )
        shutil.rmtree(folder)
        written = [answer.outputs[0] for answer in answers]
        completions = [list(one.token_ids) for one in written]
        logps = [
            [at[token].logprob for at, token in zip(one.logprobs, one.token_ids, strict=True)]
            for one in written
        ]
        return Drawn(completions, logps)


def _engine(**arguments: Any) -> "LLM":
    with _environment():
        from vllm import LLM

        return LLM(**arguments)


@contextmanager
def _environment() -> Iterator[None]:
    """For the engine's process: this process's own GPU, and nothing of the launcher that trains in several."""
    wanted: dict[str, str | None] = dict.fromkeys(_LAUNCHER)
    wanted |= {"VLLM_WORKER_MULTIPROC_METHOD": "spawn", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        mine = torch.cuda.current_device()
        wanted["CUDA_VISIBLE_DEVICES"] = visible.split(",")[mine] if visible else str(mine)
    else:
        wanted["VLLM_CPU_KVCACHE_SPACE"] = "1"
    before = {name: os.environ.get(name) for name in wanted}
    _set(wanted)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def chosen(
    manifest: StageManifest, stage: Writing, model: PeftModel, prompt: int, events: EventWriter
) -> VllmSampler | None:
    """None: the training process. prompt: tokens of the longest. What is chosen is said. Raises: StageFailed."""
    why_here = _why_here(stage)
    if why_here:
        events.write("progress", message=f"responses are written by the training process: {why_here}")
        return None
    if find_spec("vllm") is None:
        raise StageFailed(
            FailureCode.unfit_settings,
            "sampler is `vllm`, which is not installed; install it or choose another",
        )
    events.write("progress", message="responses are written by a vLLM beside the training process")
    rank = int(model.peft_config[STUDENT].r)
    return VllmSampler(
        manifest.base, rank, sampling_of(stage), prompt + stage.max_new_tokens, stage.sampler_memory
    )


def _why_here(stage: Writing) -> str | None:
    if stage.sampler is Sampler.here:
        return "sampler is `here`"
    if stage.sampler is Sampler.vllm:
        return None
    if not torch.cuda.is_available():
        return "there is no GPU"
    if stage.tuning is Tuning.full:
        return "vLLM is handed adapters, and every weight is trained"
    return "vLLM is not installed" if find_spec("vllm") is None else None
