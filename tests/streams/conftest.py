"""The folds' tests draw what models and lifecycles say from the tests of `scoring`. Each conclusion of theirs is compared
with a whole evaluation.
"""

import sys
from pathlib import Path

from streams.score_leads import scores

scores.CHECKS_KEPT_POINTS = True

sys.path.append(str(Path(__file__).parents[1] / "scoring"))
