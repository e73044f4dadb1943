"""report: the page a campaign ends with.

INPUTS   everything above
OUTPUTS  C/report/report.html
"""


rule report_page:
    """One self-contained page."""
    input:
        final=[] if FORCE_FIELD else f"{C}/train/final/final.json",
        errors=[] if FORCE_FIELD else f"{C}/validate/errors.json",
        dynamics=f"{C}/analyse/summary.json",
        label_error=LABEL_ERROR,
        arms=[] if FORCE_FIELD else arms_errors,
        config=f"{C}/config/report.json",
    output:
        page=f"{C}/report/report.html",
    log:
        f"{LOGS}/report/page.log",
    resources:
        **SITE.resources("report"),
        mem_mb=memory("report", 2000),
        runtime=minutes("report", 30),
    params:
        campaign=C,
        out=f"{C}/report",
    shell:
        "mlpwf --log {log:q} report --config {input.config:q} --campaign {params.campaign:q} --out {params.out:q}"
