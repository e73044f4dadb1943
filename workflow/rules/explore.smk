"""explore: molecular dynamics with the committee, over states and walkers.

INPUTS   the cycle's committee, C/build/{bulk,molecules}.extxyz, C/config/cycle/NNN/explore.json, C/config/{system,site}.json
OUTPUTS  C/cycle/NNN/explore/STATE/{frames.extxyz,deviations.csv,walkers.json}
"""


rule explore_state:
    """All walkers of one state; a walker that explodes is a result."""
    input:
        models=lambda wildcards: models_of(wildcards.cycle, DEPLOYED),
        starts=PATHS.build.bulk,
        molecules=PATHS.build.molecules,
        config=PATHS.cycle_config("{cycle}", "explore"),
        system=PATHS.config("system"),
        site=ancient(PATHS.config("site")),
    output:
        frames=CYCLE.explore("{state}").frames,
        deviations=CYCLE.explore("{state}").deviations,
        walkers=CYCLE.explore("{state}").walkers,
    log:
        f"{LOGS}/cycle/{{cycle}}/explore/{{state}}.log",
    threads: SITE.md_threads
    resources:
        **SITE.resources("explore"),
        mem_mb=memory("explore", 4000),
        runtime=minutes("explore", 480),
    params:
        out=str(CYCLE.explore("{state}")),
        models=repeated("--model", "models"),
        cycle=lambda wildcards: int(wildcards.cycle),
    shell:
        "mlpwf --log {log:q} explore --config {input.config:q} --site {input.site:q} --system {input.system:q}"
        " {params.models:q} --starts {input.starts:q} --molecules {input.molecules:q} --state {wildcards.state:q}"
        " --cycle {params.cycle} --out {params.out:q}"
