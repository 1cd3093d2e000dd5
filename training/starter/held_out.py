"""Progress of the starter while it is trained: short greedy evaluations on problems it has not seen.

The published figures come from `steerwise bench starter`, through vLLM; these only steer the training.
"""

import random

import torch
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from evaluation.contract.parse import Answer, parse
from evaluation.contract.render import condition_text, render
from evaluation.contract.score import is_right
from training.starter import corpus as real
from training.starter import world
from training.teachers.privileged import Hint, HintKind, with_hint

_BATCH, _MAX_NEW = 60, 120


class HeldOutEvaluation:
    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, codes: tuple[str, ...], corpus: real.Corpus | None
    ):
        self.tokenizer, self.codes, self.corpus = tokenizer, codes, corpus

    def measure(self, model: Qwen3ForCausalLM, questions: int) -> dict[str, float]:
        """Shares answered rightly, 0..1; `valid` is the share that gave a code of the schema."""
        kinds: tuple[world.BenchKind, ...] = ("unseen_pairs", "permuted_names", "told_answer")
        parts: dict[str, list[world.BenchItem]] = {k: world.bench_items(k, questions, seed=1) for k in kinds}
        if self.corpus is not None:
            parts["corpus_unseen_intents"] = self._real(questions)
        shares: dict[str, float] = {}
        valid: list[bool] = []
        for part, items in parts.items():
            answers = self._answers(model, items, hinted=part == "told_answer")
            valid += [answer.failure is None for answer in answers]
            right = [is_right(answer, item.gold) for answer, item in zip(answers, items, strict=True)]
            shares[part] = round(sum(right) / len(right), 3)
        return shares | {"valid": round(sum(valid) / len(valid), 3)}

    def _real(self, questions: int) -> list[world.BenchItem]:
        rng, items = random.Random(5), []
        assert self.corpus is not None
        for _ in range(questions):
            problem = real.sample_problem(self.corpus, rng, 5, 1, held=True)
            example = problem.examples[0]
            verdict = example.verdict
            items.append(world.BenchItem(problem.schema, example.conversation, verdict.key, verdict.decider))
        return items

    @torch.inference_mode()
    def _answers(self, model: Qwen3ForCausalLM, items: list[world.BenchItem], hinted: bool) -> list[Answer]:
        answers = []
        for start in range(0, len(items), _BATCH):
            chunk = items[start : start + _BATCH]
            texts = []
            for item in chunk:
                prompt = render(item.schema, item.conversation, self.codes)
                code = prompt.codes[item.schema.answers.index(item.gold)]
                hint = Hint(HintKind.criterion, code, condition_text(item.decider), "")
                messages = with_hint(prompt, hint) if hinted else prompt.messages
                texts.append(
                    self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
                )
            inputs = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(
                model.device
            )
            out = model.generate(
                **inputs, max_new_tokens=_MAX_NEW, do_sample=False, pad_token_id=0, eos_token_id=2
            )
            written = self.tokenizer.batch_decode(
                out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
            )
            answers += [
                parse(text, item.schema, self.codes) for text, item in zip(written, chunk, strict=True)
            ]
        return answers
