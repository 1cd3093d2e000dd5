"""A server of typed decisions, with a plain function for a model that sees the options in the contract's words."""

from typing import Any

from evaluation.contract.render import NONE_TEXT, condition_text, plain
from tests.evaluation.fake_server import POOL, Asked, Model, Option


class WireServer:
    """refusing: it answers no question of the decisions wire."""

    def __init__(self, model: Model, *, refusing: bool = False):
        self.model, self.refusing = model, refusing
        self.bodies: list[dict[str, Any]] = []

    def respond(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.bodies.append(body)
        if body["model"] != "fake":
            return 404, {"error": {"message": f"no model {body['model']}"}}
        if "state" in body:
            question, state = body["questions"]["category"], body["state"]
            said = state if isinstance(state, str) else state[-1]["text"]
            answer = {"type": "choice", "probabilities": self._shares(question["criteria"], said)}
            return 200, {"answers": {"category": answer}, "usage": {"input_tokens": 9, "output_tokens": 1}}
        (question,) = body["questions"]
        options = {one["value"]: one["description"] for one in question["choices"]}
        shares = self._shares(options, body["input"][-1]["content"])
        pairs = [{"value": name, "probability": share} for name, share in shares.items()]
        answers = {"type": "choice", "name": question["name"], "probabilities": pairs}
        refusal = {"type": "refusal", "name": question["name"]}
        details = {"cached_tokens": 3, "cache_write_tokens": 6}
        usage = {"input_tokens": 9, "output_tokens": 1, "input_tokens_details": details}
        return 200, {"answers": [refusal if self.refusing else answers], "usage": usage}

    def _shares(self, options: dict[str, str], said: str) -> dict[str, float]:
        codes = dict(zip(options, POOL, strict=False))
        shown = [
            Option(plain(name), condition_text(text), codes[name])
            for name, text in options.items()
            if not name.startswith(NONE_TEXT)
        ]
        none = next((code for name, code in codes.items() if name.startswith(NONE_TEXT)), None)
        reply = self.model(Asked(shown, none, plain(said)))
        rest = (1 - sum(reply.probabilities.values())) / len(options)
        return {name: rest + reply.probabilities.get(code, 0.0) for name, code in codes.items()}
