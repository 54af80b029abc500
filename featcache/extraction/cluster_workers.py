"""The workers of one command, wherever they are: started once, with the trunk loaded, for all of its splits."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import featcache
from featcache.cluster import Cluster, ClusterPool, PoolWorker
from featcache.extraction.partition_worker import PartitionWorker
from featcache.extraction.summary import Settings
from featcache.extraction.worker_messages import LoadedWorker, WorkerSettings
from featcache.text import counted
from featcache.trunks import TrunkSource


class ClusterWorkers:
    """A pool of workers, and what each said of itself once it was loaded."""

    def __init__(self, cluster: Cluster, settings: WorkerSettings) -> None:
        """Name the workers; none is started yet.

        Args:
            cluster: Where they run.
            settings: What each loads.
        """
        self.cluster = cluster
        self.pool = ClusterPool(cluster, PartitionWorker, settings, first_call="load")
        self.loaded: dict[PoolWorker, LoadedWorker] = {}

    def describe_engine(self) -> str:
        """Return how the forward runs and why, in words."""
        sentences = dict.fromkeys(worker.engine for worker in self.loaded.values())
        return "; ".join(sentences) + f", on {counted(len(self.loaded), 'worker')} of the cluster"

    def close(self) -> None:
        """End the workers, and leave the cluster."""
        self.pool.close()
        self.cluster.close()


def describe_worker_settings(
    source: TrunkSource, settings: Settings, cluster: Cluster, *, roots: tuple[Path, ...], widths: Mapping[str, int],
    data: str, images: int,
) -> WorkerSettings:  # fmt: skip
    """Return what a worker needs to load its trunk.

    Args:
        source: The trunk.
        settings: How the extract runs.
        cluster: Where.
        roots: The folders of the stores.
        widths: Of each layer, how many numbers it has.
        data: The folder of the images.
        images: How many there are to do.
    """
    return WorkerSettings(
        version=featcache.__version__, section=source.portable_settings(), cache=str(source.memo.cache.absolute()),
        roots={root.name: str(root.absolute()) for root in roots}, widths=widths, data=data, folder=os.getcwd(),
        path=sys.path, settings=settings, processes=cluster.share.processes, uses_gpu=bool(cluster.share.gpus),
        images=images // cluster.share.workers,
    )  # fmt: skip
