"""A process's clock that can be made to jump while it runs, as a machine's does after a wrong hand at it.

Only the time of day jumps, as in reality: what counts seconds does not.
"""

import shutil
import struct
import subprocess
from pathlib import Path

from app.errors import AppError

_SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static const volatile long long *jump;
__attribute__((constructor)) static void open_jump(void) {
  const char *path = getenv("STEERWISE_FAULTS_CLOCK");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  void *seen = file < 0 ? MAP_FAILED : mmap(0, sizeof *jump, PROT_READ, MAP_SHARED, file, 0);
  if (seen != MAP_FAILED) jump = seen;
  if (file >= 0) close(file);
}
int clock_gettime(clockid_t which, struct timespec *at) {
  long failed = syscall(SYS_clock_gettime, which, at);
  if (!failed && jump && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) at->tv_sec += *jump;
  return (int)failed;
}
int gettimeofday(struct timeval *restrict at, void *restrict zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}
time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}
"""


class NoCompiler(AppError):
    """The library that makes a clock jump cannot be built here."""

    exit_code = 2
    code = "no_compiler"


class Clock:
    """environment: of a process that is to have it."""

    def __init__(self, folder: Path):
        """Raises: NoCompiler."""
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise NoCompiler("there is no C compiler")
        source, library, self._jump = folder / "clock.c", folder / "clock.so", folder / "clock"
        source.write_text(_SOURCE)
        self.set(0)
        made = subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)],
            capture_output=True,
            text=True,
        )
        if made.returncode:
            raise NoCompiler("the C compiler does not work", [made.stderr[-1000:]])
        self.environment = {"LD_PRELOAD": str(library), "STEERWISE_FAULTS_CLOCK": str(self._jump)}

    def set(self, jump_s: int) -> None:
        """At once, in every process that has it."""
        with self._jump.open("r+b" if self._jump.exists() else "wb") as file:
            file.write(struct.pack("@q", jump_s))
