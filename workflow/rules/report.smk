"""report: the page a campaign ends with.

INPUTS   everything above
OUTPUTS  C/report/report.html
"""


def production(wildcards):
    """The analysis of production, where the final model is good, or a user runs it anyway."""
    if FORCE_FIELD or PLAN or not GATED or CAMPAIGN.simulate.anyway:
        return PATHS.analyse.summary
    checkpoints.validate_verdict.get()
    return PATHS.analyse.summary if verdict_on_potential() == GOOD else []


rule report_page:
    """One self-contained page."""
    input:
        final=[] if FORCE_FIELD else PATHS.final.record,
        errors=[] if FORCE_FIELD else PATHS.validate.errors,
        verdict=[] if FORCE_FIELD or not GATED else PATHS.validate.verdict,
        dynamics=production,
        label_error=LABEL_ERROR,
        baselines=[] if FORCE_FIELD else baseline_errors,
        config=PATHS.config("report"),
    output:
        page=PATHS.report.page,
    log:
        f"{LOGS}/report/page.log",
    resources:
        **SITE.resources("report"),
        mem_mb=memory("report", 2000),
        runtime=minutes("report", 30),
    params:
        campaign=C,
        out=str(PATHS.report),
    shell:
        "mlpwf --log {log:q} report --config {input.config:q} --campaign {params.campaign:q} --out {params.out:q}"
