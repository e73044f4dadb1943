"""build: the boxes a campaign starts from.

INPUTS   C/config/{system,build}.json
OUTPUTS  C/build/{start,test,bulk,molecules}.extxyz, summary.json
"""


rule build_frames:
    """Pack, relax and sample the starting and held-out frames."""
    input:
        system=PATHS.config("system"),
        config=PATHS.config("build"),
    output:
        start=PATHS.build.start,
        test=PATHS.build.test,
        bulk=PATHS.build.bulk,
        molecules=PATHS.build.molecules,
        summary=PATHS.build.summary,
    log:
        f"{LOGS}/build/build_frames.log",
    threads: 2
    resources:
        **SITE.resources("build"),
        mem_mb=memory("build", 2000),
        runtime=minutes("build", 240),
    params:
        out=str(PATHS.build),
    shell:
        "mlpwf --log {log:q} build --system {input.system:q} --config {input.config:q}"
        " --threads {threads} --out {params.out:q}"
