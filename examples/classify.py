"""One answer of a running Steerwise: `python examples/classify.py shop "where is my parcel"`."""

import argparse
import sys

from steerwise.client import Client
from steerwise.errors import SteerwiseError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("schema", help="the name of a schema")
    parser.add_argument("text", help="what the customer wrote")
    given = parser.parse_args()
    try:
        with Client() as client:
            answer = client.classify(schema=given.schema, text=given.text)
    except SteerwiseError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"category:   {answer.category or 'none of these, or no answer'}")
    print(f"confidence: {answer.confidence}")
    print(f"gate:       {answer.gate}")  # passed, provisional, or none: the base as it stands
    if answer.reasoning:  # an answer of mode fast has none
        print(f"reasoning:  {answer.reasoning}")
    for quote in answer.evidence or ():
        print(f"evidence:   message {quote.message_index}: {quote.quote}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
