"""The rooms of hrm_jax, read from its imports: none reaches up."""

import ast
import functools
import graphlib
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent

# Top to bottom. A room imports from rows below its own, and from itself.
ROWS = (
  ("benchmark",),
  ("plan", "plot"),
  ("train",),
  ("evaluate", "arc_vote", "view"),
  ("solve",),
  ("checkpoint",),
  ("optim", "model"),
  ("data",),
  ("config", "machines"),
  ("console",),
)
HEIGHT = {room: -row for row, rooms in enumerate(ROWS) for room in rooms}

# Longer than a file should be, for one idea that would not come apart.
LONG = {"launch/healthcheck.py": "one file that can be copied to a machine"}

FRAMEWORKS = {"jax", "flax", "optax", "orbax"}
# Files and rooms; what they import of ours counts as well.
WITHOUT_JAX = (
  "hrm_jax.arc_vote",
  "hrm_jax.config",
  "hrm_jax.console",
  "hrm_jax.data",
  "hrm_jax.checkpoint.manifest",
  "hrm_jax.checkpoint.run_record",
  "hrm_jax.checkpoint.choice",
  "hrm_jax.checkpoint.saved_steps",
  "hrm_jax.benchmark.data",
  "hrm_jax.evaluate.predictions",
  "hrm_jax.train.agenda",
  "hrm_jax.train.dashboard.event_files",
  "data_tools",
  "configs",
)
WITHOUT_DEVICES = (
  "hrm_jax.model.build",
  "hrm_jax.model.halting",
  "hrm_jax.model.hrm",
  "hrm_jax.model.layers",
  "hrm_jax.model.losses",
  "hrm_jax.model.weights",
  "hrm_jax.solve.segments",
  "hrm_jax.solve.continuous_batching",
  "hrm_jax.train.update",
)


def imports(source: str) -> set[str]:
  """Every name imported in a file, also inside functions, in full."""
  names = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, "imports are absolute here"
      names |= {f"{node.module}.{alias.name}" for alias in node.names}
  return names


def module_name(path: pathlib.Path) -> str:
  parts = path.relative_to(ROOT).with_suffix("").parts
  return ".".join(parts).removesuffix(".__init__")


@functools.cache
def sources() -> dict[str, str]:
  """The text of every module of ours, by its dotted name."""
  return {
    module_name(path): path.read_text(encoding="utf-8")
    for package in ("hrm_jax", "data_tools", "configs")
    for path in sorted((ROOT / package).rglob("*.py"))
  }


@functools.cache
def imports_of(module: str) -> frozenset[str]:
  return frozenset(imports(sources()[module]))


def as_module(name: str) -> str:
  """The module of ours that an imported name is, or lies in."""
  return name if name in sources() else name.rpartition(".")[0]


def ours(module: str) -> set[str]:
  return {as_module(name) for name in imports_of(module)} & set(sources())


def packages(module: str) -> set[str]:
  return {name.partition(".")[0] for name in imports_of(module)}


def room(module: str) -> str:
  return module.split(".")[1] if "." in module else ""


def modules(prefix: str) -> list[str]:
  inside = [m for m in sources() if f"{m}.".startswith(f"{prefix}.")]
  assert inside, prefix
  return inside


def with_all_below(module: str) -> set[str]:
  """A module and every one of ours that it loads."""
  loaded, to_do = set(), [module]
  while to_do:
    name = to_do.pop()
    if name not in loaded:
      loaded.add(name)
      to_do += ours(name)
  return loaded


def test_imports_are_read_wherever_they_stand():
  source = "import a.b\ndef f():\n  from c import d as e\n"
  assert imports(source) == {"a.b", "c.d"}


def test_every_room_has_one_row():
  rooms = {room(module) for module in modules("hrm_jax")} - {""}
  assert sorted(rooms) == sorted(HEIGHT)
  assert sum(map(len, ROWS)) == len(HEIGHT)


@pytest.mark.parametrize("name", HEIGHT)
def test_room_imports_only_from_rows_below(name):
  upwards = {
    f"{module} imports {other}"
    for module in modules(f"hrm_jax.{name}")
    for other in ours(module)
    if other.startswith("hrm_jax.")
    and room(other) != name
    and HEIGHT[room(other)] >= HEIGHT[name]
  }
  assert upwards == set()


@pytest.mark.parametrize("package", ["hrm_jax", "data_tools", "configs"])
def test_no_two_files_need_each_other(package):
  graph = {module: ours(module) - {module} for module in modules(package)}
  graphlib.TopologicalSorter(graph).prepare()  # Raises CycleError.


def test_packages_import_each_other_one_way_only():
  allowed = {
    "hrm_jax": (),
    "data_tools": ("hrm_jax.data", "hrm_jax.console"),
    "configs": ("hrm_jax.config",),
  }
  for package, below in allowed.items():
    for module in modules(package):
      for other in ours(module):
        inside = f"{other}.".startswith(tuple(f"{p}." for p in below))
        assert inside or other.startswith(package), (module, other)


@pytest.mark.parametrize("prefix", WITHOUT_JAX)
def test_what_reads_data_needs_no_jax(prefix):
  for module in modules(prefix):
    for loaded in with_all_below(module):
      assert not packages(loaded) & FRAMEWORKS, (module, loaded)


@pytest.mark.parametrize("prefix", WITHOUT_DEVICES)
def test_the_mathematics_knows_no_devices(prefix):
  for module in modules(prefix):
    words = {
      node.attr if isinstance(node, ast.Attribute) else node.id
      for node in ast.walk(ast.parse(sources()[module]))
      if isinstance(node, ast.Attribute | ast.Name)
    }
    known = {w for w in words | ours(module) if re.search("shard|device", w)}
    assert known == set(), module


@pytest.mark.parametrize("name", ["evaluate", "solve", "checkpoint"])
def test_inference_asks_for_no_optimiser(name):
  for module in modules(f"hrm_jax.{name}"):
    assert "optax" not in packages(module), module


def test_the_network_is_imported_without_what_a_run_needs():
  show = "import sys, hrm_jax.model.build; print(*sys.modules)"
  done = subprocess.run(
    [sys.executable, "-c", show],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  loaded = set(done.stdout.split())
  assert "flax.linen" in loaded
  assert not loaded & {"orbax.checkpoint", "grain", "optax", "tensorboardX"}


def test_nothing_imports_torch_or_the_tests():
  for module in sources():
    assert not packages(module) & {"torch", "tests"}, module


def test_only_the_figures_need_matplotlib():
  having = {m for m in sources() if "matplotlib" in packages(m)}
  assert having == {"hrm_jax.plot.figure"}
  # Not at the top of a file: the command tells how to install it.
  assert ours("hrm_jax.plot.__main__") >= having
  done = (
    "import sys, hrm_jax.plot.__main__; assert 'matplotlib' not in sys.modules"
  )
  subprocess.run([sys.executable, "-c", done], cwd=ROOT, check=True)


def test_the_package_is_understood_at_a_glance():
  names = [p.name for p in (ROOT / "hrm_jax").iterdir()]
  assert len([n for n in names if not n.startswith("__pycache__")]) <= 16


def test_no_file_and_no_function_is_too_long():
  for package in ("hrm_jax", "data_tools", "configs", "launch"):
    for path in (ROOT / package).rglob("*.py"):
      source = path.read_text(encoding="utf-8")
      where = str(path.relative_to(ROOT))
      assert where in LONG or source.count("\n") <= 450, where
      for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
          lines = node.end_lineno - node.lineno + 1
          assert lines <= 120, f"{where}: {node.name}"


def test_no_comment_begins_in_the_middle_of_a_sentence():
  for module, source in sources().items():
    found = re.findall(r'^\s*(?:#|""") ?(Of .*)', source, re.MULTILINE)
    assert found == [], module


def test_the_map_has_one_line_for_each_room_from_top_to_bottom():
  text = (ROOT / "docs/files.md").read_text(encoding="utf-8")
  section = text.partition("## The files of the code\n")[2]
  section = section.partition("\n## ")[0]
  named = re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE)
  for name in named:
    assert (ROOT / name).exists(), name
  inside = [pathlib.Path(n).stem for n in named if n.startswith("hrm_jax/")]
  assert sorted(inside) == sorted(HEIGHT)
  assert inside == sorted(inside, key=HEIGHT.get, reverse=True)
  assert {"configs/", "data_tools/", "launch/", "docs/"} <= set(named)


def links(page: pathlib.Path) -> list[tuple[str, str]]:
  """The files that a page links to, and the headings in them."""
  text = page.read_text(encoding="utf-8")
  found = re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", text)
  return [link for link in found if not link[0].startswith("http")]


def headings(page: pathlib.Path) -> set[str]:
  """What the headings of a page are called in links to them."""
  found = re.findall(
    r"^#+ (.+)", page.read_text(encoding="utf-8"), re.MULTILINE
  )
  return {
    re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
    for heading in found
  }


def test_every_link_of_a_page_leads_somewhere():
  pages = [ROOT / "README.md", ROOT / "launch/README.md"]
  for page in (*pages, *(ROOT / "docs").glob("*.md")):
    for name, heading in links(page):
      target = page.parent / name if name else page
      assert target.exists(), f"{page.name}: {name}"
      if heading:
        assert heading in headings(target), f"{page.name}: {name}#{heading}"


def test_a_newcomer_finds_every_page_in_a_readme_of_some_minutes():
  readme = ROOT / "README.md"
  named = {name for name, _ in links(readme)}
  pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
  assert pages - named == set()
  assert readme.read_text(encoding="utf-8").count("\n") <= 200
