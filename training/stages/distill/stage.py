"""On-policy distillation: the student writes, and a teacher that knows the answer says how it would have gone on.

The student samples a response to a prompt. The teacher reads the same response after a prompt that also holds a hint
(the worked example of the trace, or the right code with its condition), and the student is moved towards the
teacher's distribution at every token of what it wrote itself, mistakes included. SFT cannot do that: it never visits
the student's own states. By default the teacher is an exponential moving average of the student, so it keeps up with
it and averages its noise away; that state is kept in fp32 (in bf16 a small step rounds to nothing and the average
stalls) and travels with the checkpoint. It may also be the student as it is, the base, or another model.

The divergence is the full-vocabulary KL at each position, forward by default, as in SDFT's published results; the
other estimators of `losses.py` can be had. The first tokens are masked, because a teacher that was shown an example
begins by copying its first words.

Half of the prompts show a perturbed schema, so that what the student learns is to read definitions: there the
trace's codes are moved along with their meanings (a trace whose prose does not allow that is shown with the prompt that
it was written for), or, where there is no trace, the hint is the condition. A few
examples share one drawing of the schema, which student and teacher then read once (see `prefix/rows`).

On the traces instead of its own words (`on_policy` false) this is offline distillation, by a teacher that is shown the
answer and never the trace that is being read, which it would copy; on general prompts with the
base as the teacher it is re-invocation, which gives back what earlier stages took.

Built on trl 1.16.0's DistillationTrainer through three private methods; tests hold what they must do.
"""

from datasets import Dataset
from transformers import PreTrainedModel
from trl import DistillationConfig

from training.artifacts import Finished, StageFailed
from training.config import Distill, StageManifest
from training.engine.head import check_head
from training.engine.model import Loaded, check_fits, load, load_base, load_tokenizer, prompt_tokens
from training.engine.progress import EventWriter
from training.engine.trainer import Watch, fit, trainer_arguments
from training.generation.samplers import chosen
from training.protocol import FailureCode
from training.settings import TeacherKind
from training.stages.distill.preflight import preflight
from training.stages.distill.prompts import counts_of, general_rows, rows_of
from training.stages.distill.trainer import DistillTrainer
from training.teachers.ema import Follow, add_teacher

_REMEDY = "use hint `criterion` (the teacher reads the hint too), shorter definitions or fewer new tokens"


def run(manifest: StageManifest, stage: Distill, events: EventWriter) -> Finished:
    loaded = load(manifest, stage)
    rows = general_rows(manifest, stage) if stage.prompts else rows_of(manifest, stage, loaded)
    external = None if stage.teacher_model is None else _external(stage.teacher_model, loaded)
    longest = max(len(prompt_tokens(loaded.tokenizer, row["teacher_prompt"])) for row in rows)
    for model in (loaded.model, *filter(None, [external])):
        check_head(model)
        check_fits(model, longest, stage.max_new_tokens, _REMEDY)
    callbacks = []
    if stage.teacher is TeacherKind.ema:
        add_teacher(loaded.model)
        callbacks.append(Follow(loaded.model, stage.ema_rate))
    watch = Watch(manifest, stage, events)
    trainer = DistillTrainer(
        stage=stage,
        external=external,
        watch=watch,
        vllm=chosen(manifest, stage, loaded.model, longest, events) if stage.on_policy else None,
        model=loaded.model,
        args=_config(manifest, stage),
        train_dataset=Dataset.from_list([{k: v for k, v in row.items() if k != "example"} for row in rows]),
        processing_class=loaded.tokenizer,
        callbacks=callbacks,
    )
    measured = preflight(trainer, rows, stage.preflight, events) if stage.preflight else {}
    finished = fit(trainer, manifest, watch, events)
    return finished._replace(metrics=finished.metrics | counts_of(rows, stage.rollouts) | measured)


def _config(manifest: StageManifest, stage: Distill) -> DistillationConfig:
    return DistillationConfig(
        **trainer_arguments(manifest, stage, stage.steps),
        temperature=1.0,
        max_completion_length=stage.max_new_tokens,
        shuffle_dataset=False,
    )


def _external(name: str, loaded: Loaded) -> PreTrainedModel:
    """Raises: StageFailed where its tokens are not the student's."""
    if load_tokenizer(name).get_vocab() != loaded.tokenizer.get_vocab():
        raise StageFailed(
            FailureCode.unfit_settings,
            f"{name} has another tokenizer than the student; choose a teacher of the student's family, or let it write "
            "traces for SFT",
        )
    return load_base(name).requires_grad_(False).eval()
