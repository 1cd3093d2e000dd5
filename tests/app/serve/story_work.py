"""The dispatcher or a worker of the README's story: as they are, but for stages that train in no time."""

import sys
from contextlib import suppress

from app.jobs.handlers import Queue
from app.settings import load_settings
from app.worker import run_dispatcher, run_worker
from tests.app.runs.work import install

if __name__ == "__main__":
    install()
    with suppress(KeyboardInterrupt):
        if sys.argv[1] == "dispatcher":
            run_dispatcher(load_settings())
        else:
            sys.exit(run_worker(load_settings(), list(Queue)))
