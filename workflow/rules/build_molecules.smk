"""build, where a force field moves the molecules and nothing is to be labelled: the molecules alone.

INPUTS   C/config/{system,build}.json
OUTPUTS  C/build/molecules.extxyz
"""


rule build_molecules:
    """One relaxed geometry of each species."""
    input:
        system=PATHS.config("system"),
        config=PATHS.config("build"),
    output:
        molecules=PATHS.build.molecules,
    log:
        f"{LOGS}/build/build_molecules.log",
    resources:
        **SITE.resources("build"),
        mem_mb=memory("build", 2000),
        runtime=minutes("build", 30),
    params:
        out=str(PATHS.build),
    shell:
        "mlpwf --log {log:q} build --molecules-only --system {input.system:q} --config {input.config:q}"
        " --out {params.out:q}"
