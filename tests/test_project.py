"""What the project's files say about each other, and about the bundled model, agrees."""

from __future__ import annotations

import json
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import yaml

from sentrm.results import ScoredPair
from sentrm.scoring import Scorer
from sentrm.segmentation import SegmenterSpec
from sentrm.words import verdict

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
README = (ROOT / "README.md").read_text()
FRONT = yaml.safe_load(README.split("---")[1])
MODEL = ROOT / "assets" / "demo-model"


def test_requirements_are_pyprojects_and_stand_alone():
    lines = (ROOT / "requirements.txt").read_text().split("\n")
    assert [line for line in lines if line] == PROJECT["project"]["dependencies"]
    assert "torch==2.13.0" in lines
    assert not [line for line in lines if line.startswith(("-", "."))]


def test_front_matter_is_what_a_space_needs():
    gradio = next(line for line in PROJECT["project"]["dependencies"] if line.startswith("gradio"))
    assert FRONT["sdk"] == "gradio"
    assert FRONT["sdk_version"] in gradio.replace(">=6.31,", ">=6.31.0,")
    assert FRONT["python_version"] == PROJECT["project"]["requires-python"].removeprefix(">=")
    assert (ROOT / FRONT["app_file"]).is_file()
    assert FRONT["license"] == PROJECT["project"]["license"].lower()
    assert FRONT["models"] == ["sentence-transformers/all-MiniLM-L6-v2"]
    assert 0 < len(FRONT["short_description"]) <= 60
    assert version("gradio").startswith("6.")


def test_the_readmes_commands_and_paths_exist():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"^make (\w+)", README, re.M)) >= {"app", "test"}
    assert set(re.findall(r"\bmake (\w+)", README)) <= set(targets)
    tree = README.split("```text")[1].split("```")[0]
    folder = ROOT
    for line in tree.strip().splitlines():
        name = line.split()[0]
        folder = folder if line.startswith("  ") else ROOT
        assert (folder / name).exists(), name
        folder = ROOT / name if not line.startswith("  ") and name.endswith("/") else folder
    for page in (ROOT / "README.md", ROOT / "docs" / "results.md"):
        text = page.read_text()
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert (page.parent / link).exists(), link
        for module in re.findall(r"python -m (training[\w.]*|benchmarks[\w.]*)", text):
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
        for file in re.findall(r"training/(?:recipes|baselines)/\w+\.yaml", text):
            assert (ROOT / file).is_file(), file


def test_the_readmes_results_are_the_bundled_models():
    metrics = json.loads((MODEL / "metrics.json").read_text())
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in README.split("## Results")[1].split("\n## ")[0].splitlines()
        if re.match(r"\| [\w -]+ \| [\d,]+ \| \d+ \|", line)
    ]
    assert len(rows) > 10
    assert {"all", "mean of files"} < {name for name, *_ in rows}
    for name, count, _prompts, *shares in rows:
        for system, share in zip(metrics["held_out"], shares, strict=False):
            figures = metrics["held_out"][system][name]
            assert int(count.replace(",", "")) == figures["pairs"]
            assert share.split()[0] == f"{100 * figures['accuracy']:.1f}", (name, system)


def test_the_bundled_model_is_small_safe_and_opens():
    files = [file for file in MODEL.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 50_000_000
    assert {file.suffix for file in files} <= {".json", ".jinja", ".md", ".safetensors"}
    config = json.loads((MODEL / "config.json").read_text())
    assert config["dtype"] == "float16"
    assert config["aggregator"] in README
    assert str(SegmenterSpec.from_dict(config["segmenter"])) == "rules:en"
    scorer = Scorer.from_pretrained(MODEL)
    (result,) = scorer.score([("How do I boil an egg?", "Boil it for nine minutes. Then peel it.")])
    assert len(result.sentences) == 2
    assert abs(sum(result.contributions) - result.score) < 1e-6
    assert result.weights[0] == 0  # of the prompt
    assert abs(sum(result.weights) / 2 - 1) < 1e-6  # multiples of an even share


def test_the_bundled_model_prefers_more_of_its_held_out_pairs_than_length_does():
    """The figures the card prints, not a new measurement: a weaker model must not be bundled unnoticed."""
    held_out = json.loads((MODEL / "metrics.json").read_text())["held_out"]
    for rows in ("all", "mean of files"):
        longer, shorter = (held_out[f"always {which}"][rows]["accuracy"] for which in ("longer", "shorter"))
        assert held_out["demo-model"][rows]["accuracy_low"] > max(longer, shorter)


def test_the_wheel_holds_the_package_alone_with_its_page():
    setuptools = PROJECT["tool"]["setuptools"]
    assert setuptools["packages"]["find"]["include"] == ["sentrm*"]
    pages = [file for file in (ROOT / "sentrm").rglob("*") if file.suffix in (".css", ".js")]
    held: dict[str, set[str]] = {}
    for file in pages:
        held.setdefault(".".join(file.relative_to(ROOT).parent.parts), set()).add(f"*{file.suffix}")
    assert held == {package: set(names) for package, names in setuptools["package-data"].items()}


def test_every_example_fits_the_bundled_model_and_its_story_tells_the_verdict():
    scorer = Scorer.from_pretrained(MODEL)
    lines = (ROOT / "assets/examples.jsonl").read_text(encoding="utf-8").splitlines()
    for example in map(json.loads, lines):
        a, b = scorer.score([(example["prompt"], example[side]) for side in ("a", "b")])
        for response in (a, b):
            assert (response.dropped_sentences, response.cut_prompt_tokens) == (0, 0), example["id"]
        assert f"The bundled model: {verdict(ScoredPair('', a, b).probability)}" in example["story"], example["id"]
