"""The references are modules beside the tests, imported by their own unique names."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
