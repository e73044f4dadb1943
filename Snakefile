"""A campaign from a molecule to its potential, its dynamics and a report.

snakemake --cores 2                                    the system config/config.yaml names
snakemake --cores 2 --config system=config/systems/tiny_water.yaml
snakemake --profile slurm                              the same on a cluster
snakemake -n --config plan=10                          the plan, as if it took 10 cycles
"""


configfile: f"{workflow.basedir}/config/config.yaml"


include: "workflow/rules/common.smk"
include: f"workflow/rules/{'build_molecules' if FORCE_FIELD else 'build'}.smk"
include: "workflow/rules/label.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/explore.smk"
include: "workflow/rules/select.smk"
include: "workflow/rules/validate.smk"
include: "workflow/rules/simulate.smk"
include: "workflow/rules/analyse.smk"
include: "workflow/rules/report.smk"


localrules:
    all,
    simulate_collect,
    validate_verdict,


rule all:
    default_target: True
    input:
        PATHS.report.page,


onstart:
    if PLAN:
        raise WorkflowError("plan= is for a dry run; leave it out, or add -n")
    book_snakemake(C, workflow.cores if workflow.local_exec else 0)


onsuccess:
    if Path(PATHS.report.page).is_file():
        print(
            f"mlpwf: {CAMPAIGN.name} is complete; {said_of_potential()}open {PATHS.report.page}"
        )
        if not FORCE_FIELD:
            print(
                f"mlpwf: to use the potential: mlpwf model show {PATHS.final / DEPLOYED}"
            )


onerror:
    print(
        f"mlpwf: {CAMPAIGN.name} stopped; what is done is kept. The log of the failed job is below logs/{CAMPAIGN.name}; run the same command to go on"
    )
