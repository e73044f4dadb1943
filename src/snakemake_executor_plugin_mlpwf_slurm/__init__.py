"""Snakemake jobs on Slurm that outlive the Snakemake that submitted them.

Chosen by ``executor: mlpwf-slurm``. A Snakemake started again takes over the jobs of one that was killed; a silent
Slurm is waited for; no accounting is needed; each job runs one Snakemake.
"""

from dataclasses import dataclass, field

from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

from snakemake_executor_plugin_mlpwf_slurm.executor import Executor

__all__ = ["Executor", "ExecutorSettings", "common_settings"]


@dataclass
class ExecutorSettings(ExecutorSettingsBase):  # Snakemake reads the types of the fields: no postponed annotations
    """What a profile can say: ``mlpwf-slurm-poll-seconds: 30``."""

    poll_seconds: int = field(
        default=30, metadata={"help": "Seconds between two questions to Slurm, one for all jobs together.", "type": int}
    )
    logdir: str = field(
        default="logs/slurm", metadata={"help": "Folder of Slurm's own logs; those of jobs that succeeded are removed."}
    )


common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    pass_default_storage_provider_args=True,
    pass_default_resources_args=True,
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,
)
