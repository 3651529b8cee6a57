"""What the README says of the tree is true."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_tree_names_every_module_once() -> None:
    tree = README.split("```\npso_attn/\n")[1].split("```")[0]
    named = sorted(re.findall(r"^ +(\w+\.py) ", tree, re.MULTILINE))
    modules = [path for path in (ROOT / "pso_attn").rglob("*.py")]
    listed = [p.name for p in modules if p.name != "__init__.py" or p.parent.name == "pso_attn"]
    benchmarks = [path.name for path in (ROOT / "benchmarks").rglob("*.py")]
    examples = [path.name for path in (ROOT / "examples").glob("*.py")]
    assert named == sorted([*listed, *benchmarks, *examples])


def test_every_link_to_a_file_leads_to_one() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
