"""Online tests: reading logs of exposures and outcomes, and a verdict that keeps to its plan.

experiment     two arms: sample ratio, planned looks or a confidence sequence, CUPED
interleaving   two rankings in one list: which one's hits are chosen
releases       whether the offline metric predicts the online one
"""

from gemb.analysis.online.experiment import Plan, analyse, plan_size
from gemb.analysis.online.interleaving import analyse_interleaving
from gemb.analysis.online.logs import read_log
from gemb.analysis.online.releases import offline_against_online

__all__ = [
    "Plan",
    "analyse",
    "analyse_interleaving",
    "offline_against_online",
    "plan_size",
    "read_log",
]
