"""The layout of the code: imports go down the table of docs/design.md, and importing registers no flag."""

import ast
import importlib.util
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_MODULES = 14

pytestmark = pytest.mark.fast

# From the top down: a module imports from its own layer and from those below it.
LAYERS = [
    ["run_pretrain"],
    [f"clinicalbert_jax.{name}" for name in ("inference", "predict", "fill_mask", "next_sentence", "embed")],
    ["clinicalbert_jax.export"],
    ["clinicalbert_jax.audit"],
    ["clinicalbert_jax.plan"],
    ["clinicalbert_jax.finetune"],
    ["clinicalbert_jax.evaluate"],
    ["clinicalbert_jax.training"],
    ["clinicalbert_jax.pretrained"],
    ["data_prep"],
    ["clinicalbert_jax.report"],
    ["clinicalbert_jax.runs"],
    ["clinicalbert_jax.modeling"],
    ["clinicalbert_jax.data"],
    ["clinicalbert_jax.tokenizer_files"],
    ["clinicalbert_jax.cli", "clinicalbert_jax.text_input"],
    ["clinicalbert_jax.files"],
    ["clinicalbert_jax.config"],
    ["clinicalbert_jax.options"],
    ["clinicalbert_jax.errors"],
    ["clinicalbert_jax"],
]
IN_DATA_PREP = [
    ["data_prep.__main__", "data_prep.verify"],
    ["data_prep.command"],
    ["data_prep.prepare"],
    ["data_prep.publishing"],
    ["data_prep.card"],
    ["data_prep.sharding"],
    ["data_prep.config"],
    ["data_prep.examples"],
    ["data_prep.canaries"],
    ["data_prep.overlap"],
    ["data_prep.wordpiece"],
    ["data_prep.text"],
    ["data_prep.reading"],
    ["data_prep.synthetic"],
    ["data_prep"],
]
WITHOUT_JAX = [
    "clinicalbert_jax.audit.command",
    "clinicalbert_jax.cli",
    "clinicalbert_jax.data.dataset",
    "clinicalbert_jax.data.prefetch",
    "clinicalbert_jax.finetune.command",
    "clinicalbert_jax.finetune.compare.command",
    "clinicalbert_jax.finetune.convert.command",
    "clinicalbert_jax.finetune.relations.end_to_end",
    "clinicalbert_jax.plan.run_plan",
    "clinicalbert_jax.evaluate.heldout",
    "clinicalbert_jax.export.write_run",
    "clinicalbert_jax.predict",
    "clinicalbert_jax.pretrained.loading",
    "clinicalbert_jax.report.pretraining_page",
    "clinicalbert_jax.runs.metrics_log",
    "clinicalbert_jax.runs.bucket",
    "clinicalbert_jax.runs.lease",
    "clinicalbert_jax.runs.object_store",
    "clinicalbert_jax.runs.provenance",
    "clinicalbert_jax.runs.workdir",
    "clinicalbert_jax.tokenizer_files.bert_tokenizer",
    "clinicalbert_jax.training.distributed",
    "clinicalbert_jax.training.mfu",
    "data_prep.command",
    "data_prep.verify",
    "run_pretrain",
]


def modules() -> dict[str, Path]:
    """Every module of the product by its dotted name; packages by theirs."""
    paths = [*(ROOT / "clinicalbert_jax").rglob("*.py"), *(ROOT / "data_prep").rglob("*.py"), ROOT / "run_pretrain.py"]
    named = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
    return {name.removesuffix(".__init__"): path for name, path in named.items()}


def imports(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The product's modules that a file imports, anywhere in it, but for type checking alone."""
    tree = ast.parse(path.read_text("utf-8"))
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in known:
                    yield full
                elif node.module in known:
                    yield node.module


def layer(module: str, layers: list[list[str]]) -> int:
    """The number of the layer that names the module or a package around it, by the longest name."""
    found = [
        (len(name), number)
        for number, names in enumerate(layers)
        for name in names
        if module == name or module.startswith(f"{name}.")
    ]
    assert found, f"{module} is in no layer"
    return max(found)[1]


def upward(graph: dict[str, set[str]], layers: list[list[str]]) -> list[str]:
    """Imports that go up."""
    return [
        f"{module} imports {imported}"
        for module, of_module in graph.items()
        for imported in of_module
        if layer(imported, layers) < layer(module, layers)
    ]


def circle(graph: dict[str, set[str]]) -> list[str] | None:
    """A circle of imports, if there is one."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str] | None:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return None
        found = next(filter(None, (visit(one, [*path, module]) for one in sorted(graph[module]))), None)
        done.add(module)
        return found

    return next(filter(None, (visit(module, []) for module in sorted(graph))), None)


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    known = modules()
    return {module: set(imports(path, known)) - {module} for module, path in known.items()}


def test_imports_go_down(graph: dict[str, set[str]]) -> None:
    assert upward(graph, LAYERS) == []
    inside = {
        module: {one for one in of_module if one.startswith("data_prep")}
        for module, of_module in graph.items()
        if module.startswith("data_prep")
    }
    assert upward(inside, IN_DATA_PREP) == []


def test_no_imports_go_round(graph: dict[str, set[str]]) -> None:
    assert circle(graph) is None


def test_an_import_that_goes_up_or_round_is_found(graph: dict[str, set[str]]) -> None:
    wrong = graph | {"clinicalbert_jax.data.schema": {"clinicalbert_jax.training.train_step"}}
    assert upward(wrong, LAYERS) == ["clinicalbert_jax.data.schema imports clinicalbert_jax.training.train_step"]
    assert circle(graph | {"clinicalbert_jax.errors": {"clinicalbert_jax.cli"}}) is not None


def test_no_module_imports_a_program(graph: dict[str, set[str]]) -> None:
    assert not [module for module, of in graph.items() if any(one.endswith("__main__") for one in of)]


def test_programs_of_packages_only_parse_and_call(graph: dict[str, set[str]]) -> None:
    for module, path in modules().items():
        if module.endswith("__main__"):
            tree = ast.parse(path.read_text("utf-8"))
            assert not [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)], module


def test_folders_hold_few_modules() -> None:
    counts = Counter(path.parent for path in modules().values() if path.name != "__init__.py")
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


def run(script: str) -> str:
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_importing_everything_registers_no_flag_of_ours() -> None:
    needs = {"clinicalbert_jax.export.pytorch_parity": "torch", "data_prep.sharding.beam": "apache_beam"}
    names = [name for name in modules() if name not in needs or importlib.util.find_spec(needs[name])]
    script = f"""
import importlib
from absl import flags
for name in {names}:
    importlib.import_module(name)
ours = ("clinicalbert", "data_prep")
print(sorted(module for module in flags.FLAGS.flags_by_module_dict() if module.startswith(ours)))
print(sorted({{"model", "workdir", "output", "config", "input"}} & set(flags.FLAGS)))
"""
    assert run(script).splitlines() == ["[]", "[]"]


def test_a_module_that_registers_a_flag_is_found(tmp_path: Path) -> None:
    (tmp_path / "clinicalbert_wrong.py").write_text("from absl import flags\nflags.DEFINE_string('model', '', '')\n")
    script = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import clinicalbert_wrong
from absl import flags
print([module for module in flags.FLAGS.flags_by_module_dict() if module.startswith("clinicalbert")])
"""
    assert run(script) == "['clinicalbert_wrong']"


def first_that_loads_jax(names: list[str]) -> str:
    return run(f"""
import importlib, sys
for name in {names}:
    importlib.import_module(name)
    if "jax" in sys.modules:
        print(name)
        break
""")


def test_modules_that_need_no_jax_load_none() -> None:
    assert first_that_loads_jax(WITHOUT_JAX) == ""


def test_a_module_that_loads_jax_is_found() -> None:
    assert (
        first_that_loads_jax([*WITHOUT_JAX[:2], "clinicalbert_jax.training.sharding"])
        == "clinicalbert_jax.training.sharding"
    )
