"""analyse: correlators, counts of correlated molecules, laws and activation energies of the production runs.

INPUTS   the run of every state, C/config/analyse.json
OUTPUTS  C/analyse/TABLE.csv for each table of the observables, C/analyse/figures/, summary.json
"""


rule analyse_dynamics:
    """Correlators by temperature and what follows from them."""
    input:
        runs=[
            f"{C}/simulate/{state}/run/{length:g}ps.json"
            for state, length in SIMULATE_LENGTHS.items()
        ],
        config=f"{C}/config/analyse.json",
    output:
        tables=[
            f"{C}/analyse/{table}.csv"
            for table in (
                # tables: begin, written by `python -m mlpwf.dynamics.reference`
                "states",
                "motion",
                "relaxation",
                "aging",
                "van_hove",
                "correlators",
                "coherent",
                "s4",
                "sub_boxes",
                "lengths",
                "laws",
                "energies",
                "counts",
                "cooperativity",
                # tables: end
            )
        ],
        summary=f"{C}/analyse/summary.json",
    log:
        f"{LOGS}/analyse/dynamics.log",
    threads: SITE.md_threads
    resources:
        **SITE.resources("analyse"),
        mem_mb=memory("analyse", 8000),
        runtime=minutes("analyse", 240),
    params:
        simulate=f"{C}/simulate",
        out=f"{C}/analyse",
    shell:
        "mlpwf --log {log:q} analyse --config {input.config:q} --simulate {params.simulate:q} --out {params.out:q}"
        " --threads {threads}"
