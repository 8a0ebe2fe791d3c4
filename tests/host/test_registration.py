# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""After installation alone, wheel or editable, anomalib knows Ear: shown in processes of freshly made environments."""

from __future__ import annotations

import json
import pkgutil
import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from registration_env import CHECKOUT, LayeredEnv, Result, build_wheel, console_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INSTALLS = ("wheel", "editable")
# The package is taken from sys.modules, because importing it here would register it.
ASSERT_REGISTERED = """
import sys, anomalib.data, anomalib.models
anomalib_ear = sys.modules["anomalib_ear"]
assert anomalib.models.Ear is anomalib_ear.Ear
assert "Ear" in anomalib.models.__all__
assert "ear" in anomalib.models.list_models()
assert "anomalib_ear" in anomalib.models.ALLOWED_MODULES
for name in ("KolektorByPart", "KolektorSDD2", "SurfaceDemo"):
    assert getattr(anomalib.data, name) is getattr(anomalib_ear, name)
    assert name in anomalib.data.__all__
data = anomalib.data
for module in (data.utils, data.utils.image, data.predict, data.datasets.base.image):
    assert module.read_image is sys.modules["anomalib_ear.data.reading"].read_image
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def targets(wheel: Path) -> dict[str, tuple[str | Path, ...]]:
    """What pip is told to install, per kind of install."""
    return {"wheel": (wheel,), "editable": ("--editable", CHECKOUT)}


@pytest.fixture(scope="session", params=INSTALLS)
def env(
    request: pytest.FixtureRequest, targets: dict[str, tuple[str | Path, ...]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LayeredEnv]:
    """An environment with anomalib-ear installed, once from the wheel and once editable."""
    made = LayeredEnv(tmp_path_factory.mktemp(request.param))
    made.install(*targets[request.param])
    yield made
    made.close()


def succeeded(result: Result) -> str:
    """Return what a process printed, provided that it ended well."""
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    return result.stdout


class TestInstall:
    """What lies in the environment and what an interpreter pays for it."""

    def test_start_file_names_the_same_function_as_the_pth_file(self) -> None:
        """Python 3.15 and later call by the .start file what older ones call by the .pth line."""
        start = (CHECKOUT / "src/anomalib_ear.start").read_text().strip()
        pth = (CHECKOUT / "src/anomalib_ear.pth").read_text()
        assert pkgutil.resolve_name(start).__name__ == "autoload"
        assert pth == "import {0}; {0}.{1}()\n".format(*start.split(":"))

    def test_hook_and_package_are_those_of_this_install(self, env: LayeredEnv, request: pytest.FixtureRequest) -> None:
        """The tests below look at this install, not at one in the environment that runs them."""
        code = (
            "import json, sys, anomalib_ear as p, _anomalib_ear_hook as h; print(json.dumps([p.__file__, h.__file__]))"
        )
        package, hook = json.loads(succeeded(env.run("-c", code)))
        home = env.site_packages if "wheel" in request.node.callspec.id else CHECKOUT / "src"
        assert package == str(home / "anomalib_ear" / "__init__.py")
        assert hook == str(env.site_packages / "_anomalib_ear_hook.py")

    def test_interpreter_start_loads_only_the_hook(self, env: LayeredEnv) -> None:
        """A start that does not need anomalib imports neither it nor the package."""
        loaded = json.loads(succeeded(env.run("-c", "import json, sys; print(json.dumps(sorted(sys.modules)))")))
        assert "_anomalib_ear_hook" in loaded
        assert not {"anomalib", "anomalib_ear", "torch", "typing", "warnings"} & set(loaded)

    def test_interpreter_start_pays_under_a_millisecond(self, env: LayeredEnv) -> None:
        """What site does with the .pth file, the fastest of several starts, takes under 1 ms."""
        code = f"""
        import site, sys, time
        sys.path.insert(0, {str(env.site_packages)!r})
        begin = time.perf_counter()
        site.addpackage({str(env.site_packages)!r}, "anomalib_ear.pth", set())
        seconds = time.perf_counter() - begin
        assert "_anomalib_ear_hook" in sys.modules
        print(seconds)
        """
        times = [float(succeeded(env.run("-S", "-c", textwrap.dedent(code)))) for _ in range(10)]
        assert min(times) < 1e-3

    def test_import_of_the_package_is_cheap(self, env: LayeredEnv) -> None:
        """Importing the package imports neither torch nor anomalib."""
        code = "import anomalib_ear, json, sys; print(json.dumps(sorted(sys.modules)))"
        assert not {"anomalib", "torch", "numpy"} & set(json.loads(succeeded(env.run("-c", code))))

    @pytest.mark.parametrize("install", INSTALLS)
    def test_uninstall_leaves_nothing(
        self, install: str, targets: dict[str, tuple[str | Path, ...]], tmp_path: Path
    ) -> None:
        """After use and uninstallation every file and folder is gone, and so is Ear."""
        env = LayeredEnv(tmp_path)
        before = env.paths()
        env.install(*targets[install])
        succeeded(env.run("-c", "import anomalib_ear.host.registration"))
        installed = env.paths()
        env.pip("uninstall", "--yes", "anomalib-ear")
        assert {"anomalib_ear.pth", "anomalib_ear.start", "_anomalib_ear_hook.py"} <= {f.name for f in installed}
        assert env.paths() == before
        succeeded(env.run("-c", "import anomalib.models as m; assert 'ear' not in m.list_models()"))


class TestCommand:
    """The stock console script."""

    def test_script_started_as_installed(self, env: LayeredEnv) -> None:
        """The script file, run by the environment's Python, resolves both short names."""
        args = ("train", "--model", "Ear", "--data", "SurfaceDemo", "--print_config")
        printed = succeeded(env.run(console_script(), *args))
        assert "class_path: anomalib_ear.Ear" in printed
        assert "class_path: anomalib_ear.SurfaceDemo" in printed

    @pytest.mark.parametrize("subcommand", ["train", "test", "validate", "fit", "predict", "export"])
    def test_prints_config(self, env: LayeredEnv, subcommand: str) -> None:
        """Every subcommand takes --model Ear."""
        data = ["--data", "images"] if subcommand == "predict" else []
        printed = succeeded(env.fork_command(subcommand, "--model", "Ear", *data, "--print_config"))
        assert "class_path: anomalib_ear.Ear" in printed

    @pytest.mark.parametrize("subcommand", ["train", "test", "validate", "fit", "predict", "export"])
    def test_prints_help(self, env: LayeredEnv, subcommand: str) -> None:
        """Every subcommand lists the model's arguments."""
        printed = succeeded(env.fork_command(subcommand, "--model.help", "Ear"))
        assert "anomalib_ear.Ear" in printed
        assert "--model.seed" in printed


class TestHost:
    """anomalib's Python interface."""

    @pytest.mark.parametrize(
        "argument",
        ['"ear"', '{"class_path": "Ear"}', '{"class_path": "anomalib_ear.Ear"}'],
        ids=["name", "short class path", "full class path"],
    )
    def test_get_model(self, env: LayeredEnv, argument: str) -> None:
        """The host builds the model from every form in which it takes one."""
        code = f"from anomalib.models import get_model; print(type(get_model({argument})).__qualname__)"
        assert succeeded(env.fork(code)) == "Ear\n"

    def test_get_datamodule(self, env: LayeredEnv) -> None:
        """The host builds each datamodule from its short name."""
        code = """
        from anomalib.data import get_datamodule
        for name in ("KolektorByPart", "KolektorSDD2", "SurfaceDemo"):
            print(type(get_datamodule({"class_path": name})).__qualname__)
        """
        assert succeeded(env.fork(textwrap.dedent(code))) == "KolektorByPart\nKolektorSDD2\nSurfaceDemo\n"

    @pytest.mark.parametrize("data", ["KolektorSDD2", "SurfaceDemo"])
    def test_benchmark_builds_its_jobs(self, env: LayeredEnv, data: str) -> None:
        """`anomalib benchmark` takes both short names."""
        code = f"""
        from anomalib.pipelines.benchmark.generator import BenchmarkJobGenerator
        config = {{"seed": 0, "model": {{"class_path": "Ear"}}, "data": {{"class_path": "{data}"}}}}
        (job,) = BenchmarkJobGenerator(accelerator="cpu").generate_jobs(config, None)
        print(type(job.model).__qualname__, type(job.datamodule).__qualname__)
        """
        assert succeeded(env.fork(textwrap.dedent(code))) == f"Ear {data}\n"

    @pytest.mark.parametrize(
        "first",
        [
            "from anomalib.models import Ear",
            "import anomalib.models, anomalib_ear",
            "import anomalib_ear, anomalib.models",
            "import anomalib.data, anomalib_ear.host.lightning_model",
            "from anomalib_ear import Ear",
            "from anomalib_ear.host.lightning_model import Ear",
            "from anomalib_ear.data import SurfaceDemo",
            "import anomalib_ear.deploy.export",
            "import anomalib.engine",
        ],
    )
    def test_import_order(self, env: LayeredEnv, first: str) -> None:
        """Whatever is imported first, everything is registered in the end, without a warning."""
        result = env.fork(f"{first}\n{ASSERT_REGISTERED}")
        succeeded(result)
        assert "is not registered" not in result.stderr

    @pytest.mark.parametrize(
        "first",
        [
            "import anomalib.data",
            "from anomalib_ear.data import SurfaceDemo",
            "from anomalib_ear.data.surface_demo import SurfaceDemo",
        ],
    )
    def test_import_order_of_data(self, env: LayeredEnv, first: str) -> None:
        """The datamodule is registered without a model, and without importing any."""
        code = """
        import sys, anomalib.data
        assert anomalib.data.SurfaceDemo is sys.modules["anomalib_ear.data"].SurfaceDemo
        assert "anomalib.models" not in sys.modules
        """
        succeeded(env.fork(first + textwrap.dedent(code)))

    def test_spawned_workers_read_as_their_parent(self, env: LayeredEnv, tmp_path: Path) -> None:
        """Spawned workers read 16 bits at full range too."""
        Image.fromarray(np.full((4, 5), 32768, np.uint16)).save(tmp_path / "photograph.png")
        code = f"""
        from anomalib.data import PredictDataset
        from torch.utils.data import DataLoader
        dataset = PredictDataset({str(tmp_path)!r})
        loader = DataLoader(dataset, num_workers=1, collate_fn=list, multiprocessing_context="spawn")
        print(*(round(item.image.mean().item(), 3) for (item,) in loader))
        """
        assert succeeded(env.run("-c", textwrap.dedent(code))) == "0.5\n"

    def test_register_twice(self, env: LayeredEnv) -> None:
        """A second registration changes nothing."""
        code = """
        import sys, anomalib.models, _anomalib_ear_hook as hook
        hook.install()
        hook.register()
        assert sys.meta_path.count(hook.HostFinder) == 1
        assert anomalib.models.__all__.count("Ear") == 1
        assert anomalib.data.__all__.count("SurfaceDemo") == 1
        """
        succeeded(env.fork(textwrap.dedent(code)))


class TestFailure:
    """A plug-in that is broken or switched off stays out of the way."""

    @pytest.mark.parametrize(
        "module", ["anomalib_ear.host.registration", "anomalib_ear.host.lightning_model", "anomalib_ear.data"]
    )
    def test_broken_plugin_warns(self, env: LayeredEnv, module: str) -> None:
        """If a module of the plug-in cannot be imported there is one warning, and anomalib works."""
        code = f"""
        import sys
        sys.modules[{module!r}] = None
        from anomalib.data import Folder
        from anomalib.models import get_model, list_models
        assert "padim" in list_models()
        print(type(get_model("ganomaly")).__name__)
        """
        result = env.fork(textwrap.dedent(code))
        assert succeeded(result) == "Ganomaly\n"
        assert result.stderr.count("RuntimeWarning: anomalib-ear is not registered") == 1
        assert module in result.stderr

    def test_off_switch(self, env: LayeredEnv) -> None:
        """ANOMALIB_EAR_AUTOLOAD=0 leaves anomalib as it is."""
        code = """
        import sys, anomalib.data, anomalib.models
        assert "ear" not in anomalib.models.list_models()
        assert not hasattr(anomalib.data, "SurfaceDemo")
        assert "anomalib_ear" not in sys.modules
        assert anomalib.data.utils.read_image.__module__ == "anomalib.data.utils.image"
        """
        succeeded(env.run("-c", textwrap.dedent(code), ANOMALIB_EAR_AUTOLOAD="0"))

    def test_explicit_import_registers_without_the_hook(self, env: LayeredEnv) -> None:
        """Importing the package registers where no .pth file runs, and where the hook is switched off."""
        code = f"import anomalib_ear\n{ASSERT_REGISTERED}"
        succeeded(env.run("-c", code, ANOMALIB_EAR_AUTOLOAD="0"))
