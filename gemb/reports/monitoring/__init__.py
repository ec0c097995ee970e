"""Pages about models in use: drift, two versions side by side, online tests, classifiers."""

from gemb.reports.monitoring.classifier_page import write_classifier_page
from gemb.reports.monitoring.drift_page import write_drift_page
from gemb.reports.monitoring.online_page import write_online_page
from gemb.reports.monitoring.versions_page import write_versions_page

__all__ = [
    "write_classifier_page",
    "write_drift_page",
    "write_online_page",
    "write_versions_page",
]
