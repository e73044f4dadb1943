"""build: the boxes a campaign starts from.

INPUTS   C/config/{system,build}.json
OUTPUTS  C/build/{start,test,bulk,molecules}.extxyz, summary.json
"""


rule build_frames:
    """Pack, relax and sample the starting and held-out frames."""
    input:
        system=f"{C}/config/system.json",
        config=f"{C}/config/build.json",
    output:
        start=f"{C}/build/start.extxyz",
        test=f"{C}/build/test.extxyz",
        bulk=f"{C}/build/bulk.extxyz",
        molecules=f"{C}/build/molecules.extxyz",
        summary=f"{C}/build/summary.json",
    log:
        f"{LOGS}/build/build_frames.log",
    threads: 2
    resources:
        **SITE.resources("build"),
        mem_mb=memory("build", 2000),
        runtime=minutes("build", 240),
    params:
        out=f"{C}/build",
    shell:
        "mlpwf --log {log:q} build --system {input.system:q} --config {input.config:q}"
        " --threads {threads} --out {params.out:q}"
