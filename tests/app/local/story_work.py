"""`steerwise` for the dispatcher and worker of the README's story: as it is, but its stages train in no time."""

from app.cli.program import main
from tests.app.runs.work import install

if __name__ == "__main__":
    install()
    main()
