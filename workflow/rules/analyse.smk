"""analyse: correlators, counts of correlated molecules, laws and activation energies of the production runs.

INPUTS   the run of every state, C/config/analyse.json
OUTPUTS  C/analyse/TABLE.csv for each table of the observables, C/analyse/figures/, summary.json
"""


rule analyse_dynamics:
    """Correlators by temperature and what follows from them."""
    input:
        runs=[
            PATHS.simulate(state).run(f"{length:g}")
            for state, length in SIMULATE_LENGTHS.items()
        ],
        config=PATHS.config("analyse"),
    output:
        tables=[
            PATHS.analyse.table(table)
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
        summary=PATHS.analyse.summary,
    log:
        f"{LOGS}/analyse/dynamics.log",
    threads: SITE.md_threads
    resources:
        **SITE.resources("analyse"),
        mem_mb=memory("analyse", 8000),
        runtime=minutes("analyse", 240),
    params:
        simulate=str(PATHS / "simulate"),
        out=str(PATHS.analyse),
    shell:
        "mlpwf --log {log:q} analyse --config {input.config:q} --simulate {params.simulate:q} --out {params.out:q}"
        " --threads {threads}"
