"""A process of its own: what it needs to start, and what it takes."""

from collections.abc import Callable

from processes import Process
from registries import Registry
from servings_at_work import Serving
from worlds import rows, trained

from kit.testing import KeyFolder
from serving.settings import Settings

FRAMEWORKS = ("sklearn", "scipy", "pandas", "torch", "pyarrow", "/onnx/", "skl2onnx")
NOBODY = {"database_url": "postgresql+psycopg://nobody:no@127.0.0.1:1/none", "registry_url": "http://127.0.0.1:1"}


async def test_a_new_process_answers_without_anybody_and_without_a_framework(
    settings: Callable[..., Settings], key_folder: KeyFolder, registry: Registry, engine: object
) -> None:
    registry.register("late", trained())
    async with Serving.started(settings(), key_folder) as before:
        await before.deploy("late", "late")
        expected = (await before.predict("late", rows(3))).json()
    async with Process.started(settings(**NOBODY), key_folder, "all") as alone:
        for _ in range(50):
            answer = await alone.http.post("/v1/deployments/late/predict", json={"rows": rows(3)})
            assert answer.json() == expected
        assert (await alone.http.get("/v1/deployments/late")).status_code == 503
        loaded = alone.libraries()
        assert [name for name in FRAMEWORKS if f"/{name.strip('/')}/" in loaded] == []
        assert alone.pss() < 130e6
    assert alone.process.returncode == 0
