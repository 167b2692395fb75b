"""Files as people write them for other systems, each with what it becomes.

python -m tests.ci.convert.examples      writes what they become, to be looked at and committed
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, cast

from ci.convert.converting import Converted, Dialect, convert

PLACE: Final = Path(__file__).parent / "examples"
EXAMPLES: Final = sorted(
    f"{path.parent.name}/{path.name}" for path in PLACE.glob("*/*.y*ml") if not path.name.endswith(".converted.yml")
)


def converted(example: str) -> Converted:
    """What an example becomes now. example: ``github/node.yaml``."""
    dialect, name = example.split("/")
    return convert(cast(Dialect, dialect), (PLACE / example).read_bytes(), name, "main")


def golden(example: str) -> Path:
    """Where it stands what an example has to become."""
    return PLACE / f"{example.rpartition('.')[0]}.converted.yml"


if __name__ == "__main__":
    for each in EXAMPLES:
        golden(each).write_text(converted(each).text)
