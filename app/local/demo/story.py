"""One tenant's way through the API: from nothing to a gated classifier, and an edit that is followed at once.

Every step finds what an earlier try has left, so that a demo that was stopped goes on where it was.
"""

import time
from pathlib import Path
from typing import NamedTuple

from app.cli.answers import customer_line
from app.cli.client import classify, datasets, gates, runs
from app.cli.client.api import Api, Json
from app.cli.client.call import Call
from app.cli.client.profile import Target
from app.cli.client.upload import source
from app.cli.console import ConsoleReporter, stage_table, verdict_lines
from app.cli.terminal import Terminal
from app.errors import AppError, InputError
from app.local.demo.tenant import Demo
from app.runs.inputs import jsonl
from evaluation.contract.perturb import swap
from evaluation.contract.record import Conversation, Split
from evaluation.contract.schema import CategorySchema
from evaluation.reporting.report import Report, Verdict

_TRIED = 12  # test conversations of each of the two categories
_SEEN_WITHIN_S, _AGAIN_S = 10.0, 0.3
_GOES_ON = ("queued", "running", "succeeded")


class NotAnswered(AppError):
    """What is deployed did not answer."""

    code = "not_answered"


class DemoAnswer(NamedTuple):
    conversation: Conversation
    answer: Json


def tell(target: Target, demo: Demo, out: Path, progress: ConsoleReporter) -> Verdict:
    """target: with an admin key of the platform. Leaves report.json and report.html in `out`. Raises: AppError."""
    name = demo.name
    with Api(target) as platform:
        tenant_id = _found_or_made(platform, "/v1/tenants", {"name": name})["id"]
        # Answers at once: on a processor a gate of answers with reasons takes three times as long.
        wished = {"serve_edits": "at_once", "mode": "fast"}
        platform.send("PATCH", f"/v1/tenants/{tenant_id}", json=wished)
    with Api(target._replace(tenant=tenant_id)) as api:
        call = Call(api, False, Terminal())
        progress.note(
            f"tenant {name}: a schema of {len(demo.category_schema.categories)} categories is published"
        )
        if missing := demo.too_few():
            progress.note(
                f"preset {demo.preset.value} asks too little for a gate that decides ({'; '.join(missing)}): expect "
                "incomplete. --preset cpu asks enough, and takes more than an hour"
            )
        schema_id = _published(api, name, demo.category_schema)
        dataset_id = _uploaded(call, name, schema_id, out, demo.conversations)
        run = runs.succeeded(runs.followed(call, _run(api, schema_id, dataset_id, demo)["id"]))
        asked = api.post_once("/v1/gates", {"model_version_id": run["model_version_id"]})
        gate = gates.measured(gates.waited(call, asked["id"]))
        report = _reported(api, gate["id"], out)
        call.say(stage_table(report))
        call.say("\n".join(verdict_lines(report)))
        assert report.gate is not None
        if report.gate.verdict is Verdict.passed:
            made = api.post_once("/v1/deployments", {"gate_id": gate["id"]})
            gates.went_live(gates.settled(call, made["id"]))
            _edit(call, schema_id, demo, deployed=True)
        else:
            call.say("\nNothing is deployed: only a model whose gate has passed may answer customers.")
            call.say(
                "With a key for playgrounds the base answers as it stands, untrained, and marks it: gate none."
            )
            _edit(call, schema_id, demo, deployed=False)
    return report.gate.verdict


def _published(api: Api, name: str, content: CategorySchema) -> str:
    """With this content, also where an earlier try has edited it. Returns the schema's id."""
    draft = content.model_dump(mode="json", exclude={"name"})
    schema_id = _found_or_made(api, "/v1/schemas", {"name": name, "draft": draft})["id"]
    _publish(api, schema_id, content)
    return str(schema_id)


def _publish(api: Api, schema_id: str, content: CategorySchema) -> int:
    """Returns the version's number."""
    anything = {"If-Match": "*"}  # nobody else edits it
    draft = content.model_dump(mode="json", exclude={"name"})
    api.send("PUT", f"/v1/schemas/{schema_id}/draft", json=draft, headers=anything)
    published = api.post(f"/v1/schemas/{schema_id}/publish", None, **anything)
    return int(published["number"])


def _uploaded(call: Call, name: str, schema_id: str, out: Path, conversations: list[Conversation]) -> str:
    file = out / "conversations.jsonl"
    _write(file, jsonl(conversations))
    dataset = _found_or_made(call.api, "/v1/datasets", {"name": name, "schema_id": schema_id})
    if dataset["state"] != "ready":
        datasets.usable(datasets.uploaded(call, dataset["id"], source(file)))
    return str(dataset["id"])


def _run(api: Api, schema_id: str, dataset_id: str, demo: Demo) -> Json:
    """The one that an earlier try has begun, unless it has failed."""
    begun = api.pages("/v1/runs", 1, schema_id=schema_id)
    if begun and begun[0]["state"] in _GOES_ON:
        return begun[0]
    order = {"schema_id": schema_id, "dataset_id": dataset_id, "preset": demo.preset.value, "seed": demo.seed}
    return api.post_once("/v1/runs", order)


def _reported(api: Api, gate_id: str, out: Path) -> Report:
    """For programs and for people. Raises: InputError."""
    found = api.send("GET", f"/v1/gates/{gate_id}/report").text
    page = api.send("GET", f"/v1/gates/{gate_id}/report.html").text
    _write(out / "report.json", found.encode())
    _write(out / "report.html", page.encode())
    return Report.model_validate_json(found)


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}") from None


# ------------------------------------------------------------------------------------------------------- the edit


def _edit(call: Call, schema_id: str, demo: Demo, *, deployed: bool) -> None:
    """The two categories with most test conversations exchange their definitions; of each a conversation is shown.

    deployed: whether a model of the tenant answers, or the base.
    """
    schema = demo.category_schema
    test = [c for c in demo.conversations if c.split is Split.test]
    first, second = sorted(schema.keys, key=lambda key: -sum(c.category == key for c in test))[:2]
    tried = [c for key in (first, second) for c in [c for c in test if c.category == key][:_TRIED]]
    answers = _answered(call.api, schema_id, tried)
    before = [_surest_right(answers, key) for key in (first, second)]
    call.say("\nTwo conversations, answered at once, with the reasons written afterwards:\n")
    _show(call, _explained(call.api, schema_id, before))
    edited = _publish(call.api, schema_id, swap(schema, first, second).schema)
    call.say(f"Now {first!r} and {second!r} exchange their definitions. Nothing is trained.\n")
    if deployed and _was_taken_back(call.api, schema_id, edited):
        call.say(
            "This edit was made before, its gate has failed, and it was taken back: it answers nobody.\n"
        )
        return
    after = _answered_by(edited, call.api, schema_id, [one.conversation for one in before])
    _show(call, _explained(call.api, schema_id, after))
    other = {first: second, second: first}
    moved = sum(one.answer["category"] == other.get(str(one.conversation.category)) for one in after)
    call.say(f"{moved} of {len(after)} answers moved with the definitions.")
    if deployed:
        call.say("They are provisional: the edit has a gate of its own, and is taken back should it fail.\n")


def _was_taken_back(api: Api, schema_id: str, version: int) -> bool:
    """After an earlier demo, when the gate on the edit ended: labels of before the edit speak against it."""
    gates = [one for one in api.pages("/v1/gates") if one["schema_id"] == schema_id]
    return any(one["schema_version"] == version and one["verdict"] == "failed" for one in gates)


def _answered(api: Api, schema_id: str, conversations: list[Conversation]) -> list[DemoAnswer]:
    """Raises: NotAnswered."""
    items = [{"id": one.id, "messages": classify.messages(one)} for one in conversations]
    found = api.post("/v1/classify/batch", {"schema_id": schema_id, "items": items})["results"]
    for result in found:
        if result["answer"] is None:
            raise NotAnswered(f"a conversation was not answered: {result['problem']['detail']}")
    return [DemoAnswer(c, result["answer"]) for c, result in zip(conversations, found, strict=True)]


def _answered_by(
    version: int, api: Api, schema_id: str, conversations: list[Conversation]
) -> list[DemoAnswer]:
    """For a second the API may still go by what it knew."""
    deadline = time.monotonic() + _SEEN_WITHIN_S
    while True:
        found = _answered(api, schema_id, conversations)
        if all(one.answer["schema_version"] == version for one in found) or time.monotonic() > deadline:
            return found
        time.sleep(_AGAIN_S)


def _explained(api: Api, schema_id: str, answers: list[DemoAnswer]) -> list[DemoAnswer]:
    """Asked again, for their reasons: an explanation changes no answer."""
    asked = [{"schema_id": schema_id, "messages": classify.messages(c), "explain": True} for c, _ in answers]
    return [
        one._replace(answer=api.post("/v1/classify", body)) for one, body in zip(answers, asked, strict=True)
    ]


def _surest_right(answers: list[DemoAnswer], key: str) -> DemoAnswer:
    """Of those answered rightly, the one of which the model is surest; where there is none, the first as it is."""
    own = [one for one in answers if one.conversation.category == key]
    right = [one for one in own if one.answer["category"] == key]
    return max(right, key=lambda one: one.answer["confidence"] or 0.0, default=own[0])


def _show(call: Call, answers: list[DemoAnswer]) -> None:
    for one in answers:
        call.say("\n".join([customer_line(one.conversation), *classify.lines(one.answer), ""]))


def _found_or_made(api: Api, path: str, body: Json) -> Json:
    """By its name."""
    known = [item for item in api.pages(path) if item["name"] == body["name"]]
    return known[0] if known else api.post_once(path, body)
