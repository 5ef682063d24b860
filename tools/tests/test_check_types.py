"""Nothing is left out of the types."""

import check_types
import size_gate


def test_every_folder_with_python_is_checked() -> None:
    checked = [folder for folders, _ in check_types.runs(check_types.ROOT) for folder in folders]
    assert len(checked) == len(set(checked))
    for path in size_gate.sources(check_types.ROOT):
        assert any(f"{path}/".startswith(f"{folder}/") for folder in checked), path


def test_helpers_are_found_beside_their_tests() -> None:
    paths = {folders[0]: path for folders, path in check_types.runs(check_types.ROOT)}
    assert paths["tests/e2e"] == "tests/e2e:tools"
    assert paths["sdk/tests"] == "sdk/tests"
    assert paths["libs/kit/tests"] == ""  # these import their helpers from their own package
