"""report: the page a campaign ends with.

INPUTS   everything above
OUTPUTS  C/report/report.html
"""


rule report_page:
    """One self-contained page."""
    input:
        final=[] if FORCE_FIELD else PATHS.final.record,
        errors=[] if FORCE_FIELD else PATHS.validate.errors,
        dynamics=PATHS.analyse.summary,
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
