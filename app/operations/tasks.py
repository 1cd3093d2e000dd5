"""The sweep that says of jobs which fit no worker that they do."""

from functools import partial

from app.jobs import fitting
from app.jobs.handlers import register_sweep
from app.operations.presence import ALIVE_S

register_sweep("fitting", partial(fitting.sweep, ALIVE_S), fitting.EVERY_S)
