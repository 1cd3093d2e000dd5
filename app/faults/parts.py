"""Which processes a fault run has, and what of them is the product's own."""

from typing import NamedTuple


class PlantParts(NamedTuple):
    """real: stages train and gates ask as ever, and vLLM is the real one where it is installed. lease_s: after which a
    silent worker has lost its job. disk_mib: of the file system that can be full.
    """

    gpu_workers: tuple[str, ...]
    models: tuple[str, ...]
    tenants: int
    lease_s: float
    stop_timeout_s: float
    ready_timeout_s: float
    disk_mib: int
    real: bool = False

    @property
    def workers(self) -> tuple[str, ...]:
        return (*self.gpu_workers, "worker-cpu")

    @property
    def heartbeat_s(self) -> float:
        """Four that are missed cost nothing."""
        return self.lease_s / 5

    @property
    def one_worker(self) -> float:
        """The share of the work that stands still with one of them."""
        return 1 / len(self.gpu_workers)


QUICK = PlantParts(
    gpu_workers=("worker-gpu-1", "worker-gpu-2", "worker-gpu-3"),
    models=("model-1", "model-2"),
    tenants=2,
    lease_s=5,
    stop_timeout_s=2,
    ready_timeout_s=600,  # two model servers and four workers, on a machine that may have much else to do
    disk_mib=192,
)
# A run's stages come one after the other: the second worker is there to take over. One vLLM is what
# a small machine has room for.
REAL = PlantParts(
    gpu_workers=("worker-gpu-1", "worker-gpu-2"),
    models=("model-1",),
    tenants=1,
    lease_s=15,
    stop_timeout_s=10,
    ready_timeout_s=900,  # ... and a vLLM that compiles
    disk_mib=512,
    real=True,
)
