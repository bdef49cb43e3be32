"""polyreach report: train the runs of experiments and write their pages."""

from collections.abc import Sequence

from polyreach.commands.options import parse_options
from polyreach.commands.terminal import console
from polyreach.experiments.report import ReportOptions, write_report
from polyreach_description.closed_output import outlast_output


def run(words: Sequence[str]) -> int:
    """polyreach report EXPERIMENT."""
    options = parse_options(ReportOptions, words, prog="polyreach report")
    with outlast_output():
        return write_report(options, console)
