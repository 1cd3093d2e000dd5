"""RL as TRL's trainer does it when nothing is replaced: what our sampling and scoring are measured against."""

from trl import GRPOTrainer

from training.artifacts import Finished
from training.config import Rl, StageManifest
from training.data.curriculum import Curriculum
from training.engine.model import load
from training.engine.progress import EventWriter
from training.engine.trainer import Watch, fit
from training.stages.rl import Rewarder, config_of, examples_of


def run(manifest: StageManifest, stage: Rl, events: EventWriter) -> Finished:
    """The same model, prompts, rewards and settings as `rl.run`; options that TRL does not have are left out."""
    loaded = load(manifest, stage)
    curriculum = Curriculum(examples_of(manifest, stage, loaded), manifest, stage, loaded)
    trainer = GRPOTrainer(
        model=loaded.model,
        args=config_of(manifest, stage),
        reward_funcs=Rewarder(curriculum.examples, loaded, stage.pairs),
        train_dataset=curriculum.dataset(events),
        processing_class=loaded.tokenizer,
    )
    return fit(trainer, manifest, Watch(manifest, stage, events), events)
