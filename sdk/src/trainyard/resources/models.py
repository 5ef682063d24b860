"""Models, their versions, and the aliases that point at versions."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainyard.errors import TrainyardError
from trainyard.resources.pushes import Pushes, Sent
from trainyard.results import Alias, Model, ModelVersion
from trainyard.wire import Wire

Reference = int | str  # a version's number, "latest", an alias, or a digest


class DownloadCorrupt(TrainyardError):
    """What came is not what the manifest names; nothing was kept."""


class Models:
    """What the registry keeps."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def push(
        self,
        name: str,
        files: Path | Sequence[Path],
        *,
        signature: Mapping[str, Any] | None = None,
        format: str | None = None,
        architecture: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        example: Sequence[Any] = (),
        source: str = "",
        sent: Sent | None = None,
    ) -> ModelVersion:
        """A version of files that were made elsewhere: ONNX, skops, pt2, safetensors, LightGBM or XGBoost.

        The signature is read from an ONNX file; of others it must be said. Weights in safetensors need their
        architecture. `example` are rows that the model is warmed with, `source` says whence it comes. Files that are
        there are not sent again, and the same files and signature again are the version that exists. `sent` hears a
        file's name and how many bytes of it have gone.
        """
        return Pushes(self._wire).push(
            name,
            files,
            signature=signature,
            format=format,
            architecture=architecture,
            parameters=parameters,
            metrics=metrics,
            example=example,
            source=source,
            sent=sent,
        )

    def create(self, name: str, description: str = "") -> Model:
        """A model without versions."""
        body = {"name": name, "description": description}
        return Model.of(self._wire.request("POST", "/v1/models", json=body).json())

    def list(self) -> Iterator[Model]:
        """All of the project."""
        return map(Model.of, self._wire.pages("/v1/models"))

    def get(self, name: str) -> Model:
        """One by name."""
        return Model.of(self._wire.get(f"/v1/models/{name}"))

    def delete(self, name: str) -> None:
        """Delete it with its versions; a used one is a Conflict."""
        self._wire.delete(f"/v1/models/{name}")

    def versions(self, name: str) -> Iterator[ModelVersion]:
        """All versions."""
        return map(ModelVersion.of, self._wire.pages(f"/v1/models/{name}/versions"))

    def version(self, name: str, version: Reference = "latest") -> ModelVersion:
        """One version: by number, alias or digest."""
        return ModelVersion.of(self._wire.get(f"/v1/models/{name}/versions/{version}"))

    def delete_version(self, name: str, version: Reference) -> None:
        """Delete one version; a used one is a Conflict."""
        # By its number: a name that moves would be the next version's when the request is sent again.
        number = version if str(version).isdecimal() else self.version(name, version).version
        self._wire.delete(f"/v1/models/{name}/versions/{number}")

    def aliases(self, name: str) -> Iterator[Alias]:
        """All aliases."""
        return map(Alias.of, self._wire.pages(f"/v1/models/{name}/aliases"))

    def alias(self, name: str, alias: str) -> Alias:
        """One alias."""
        return Alias.of(self._wire.get(f"/v1/models/{name}/aliases/{alias}"))

    def set_alias(self, name: str, alias: str, version: int) -> Alias:
        """Point an alias at a version. Somebody else's move in the same moment is a Conflict, and theirs stands."""
        return Alias.of(self._wire.put(f"/v1/models/{name}/aliases/{alias}", {"version": version}))

    def delete_alias(self, name: str, alias: str) -> None:
        """Delete an alias."""
        self._wire.delete(f"/v1/models/{name}/aliases/{alias}")

    def download(self, name: str, version: Reference, folder: Path) -> tuple[Path, ...]:
        """The files of a version, each checked against its digest before it gets its name."""
        found = self.version(name, version)
        folder.mkdir(parents=True, exist_ok=True)
        return tuple(self._file(found, str(file["path"]), str(file["digest"]), folder) for file in found.formats)

    def _file(self, version: ModelVersion, name: str, digest: str, folder: Path) -> Path:
        path = folder / Path(name).name  # never outside the folder, whatever the manifest says
        part = path.with_name(f".{path.name}.part")
        seen = hashlib.sha256()
        source = f"/v1/models/{version.model}/versions/{version.version}/files/{name}"
        with self._wire.stream(source) as answer, part.open("wb") as out:
            for chunk in answer.iter_bytes():
                seen.update(chunk)
                out.write(chunk)
        if f"sha256:{seen.hexdigest()}" != digest:
            part.unlink()
            raise DownloadCorrupt(f"{name} of {version.reference} came with another digest than {digest}.")
        os.replace(part, path)
        return path
