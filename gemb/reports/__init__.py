"""Report pages, plots and tables of the results that other packages return.

Everything here takes plain values (dicts, lists, arrays) and returns or writes text. Nothing is
measured here.
"""

from gemb.reports.checkpoints_page import write_checkpoints_page
from gemb.reports.comparison_page import write_comparison_page
from gemb.reports.retention_page import write_retention_page
from gemb.reports.run_page import write_run_page
from gemb.reports.suite_page import write_suite_page

__all__ = [
    "write_checkpoints_page",
    "write_comparison_page",
    "write_retention_page",
    "write_run_page",
    "write_suite_page",
]
