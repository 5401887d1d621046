"""The package is not installed beside Pointsman: it belongs into Bugsink. Its pure modules are imported from its folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
