import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_python_in_the_readme_runs_as_printed(name: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text("utf-8"), re.S)
    assert blocks
    for block in blocks:
        names: dict = {}
        exec(block, names)
        assert names["query"].score(names["docs"])[0].argmax() == 0


@pytest.mark.parametrize(
    "name", ["README.md", "README.zh-CN.md", "examples/data/debate/README.md", "m3core/mini/README.md"]
)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def test_the_quickstart_answers_its_three_questions(capsys: pytest.CaptureFixture[str]) -> None:
    exec(
        compile((ROOT / "examples" / "quickstart.py").read_text("utf-8"), "quickstart.py", "exec"),
        {"__file__": str(ROOT / "examples" / "quickstart.py"), "__name__": "__main__"},
    )
    out = capsys.readouterr().out
    firsts = re.findall(r"^\S.*？?\n  [\d.]+ \(.*?\)  (\S+):", out, re.M)
    assert len(firsts) == 3
    assert [f.split("-")[0] for f in firsts] == ["ai", "old", "minor"]
