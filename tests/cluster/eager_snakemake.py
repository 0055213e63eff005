"""Snakemake that looks every second for jobs that have ended: its Slurm plugin waits longer each time, up to 3 minutes."""

import asyncio

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor


async def sleep(self: RemoteExecutor) -> None:
    await asyncio.sleep(1)


RemoteExecutor.sleep = sleep  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
