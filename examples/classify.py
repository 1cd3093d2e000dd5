"""One answer of a running Steerwise: `python examples/classify.py shop "where is my parcel"`."""

import argparse
import os
import sys

import httpx


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("schema", help="the name of a schema that has a live deployment")
    parser.add_argument("text", help="what the customer wrote")
    given = parser.parse_args()
    url = os.environ.get("STEERWISE_URL", "http://127.0.0.1:8000")
    headers = {"Authorization": f"Bearer {os.environ['STEERWISE_API_KEY']}"}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as api:
        response = api.post("/v1/classify", json={"schema": given.schema, "text": given.text})
    answer = response.json()
    if response.is_error:
        print(answer["detail"], file=sys.stderr)
        return 1
    print(f"category:   {answer['category'] or 'none of these'}")
    print(f"confidence: {answer['confidence']}")
    print(f"reasoning:  {answer['reasoning']}")
    for quote in answer["evidence"]:
        print(f"evidence:   message {quote['message_index']}: {quote['quote']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
