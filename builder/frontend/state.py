"""What a stage knows while its instructions are planned: image config, variables, history, and the chain so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from builder.graph.vertices import Vertex
from builder.request.arguments import SCAN_ARGS
from images.oci import ContainerConfig, History, ImageConfig

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEFAULT_SHELL = ("/bin/sh", "-c")
_COMMENT = "buildkit.dockerfile.v0"  # marks the dialect of ``created_by``; tools that read histories look for it


class StageState:
    """The state of a stage while it is planned. Mutable, and private to the frontend.

    vertices: this stage's own.
    tail: the last vertex, on which the next one builds.
    variables: what ``$name`` means here: ENV and ARG in the order of the file. The later one of a name wins (measured
    on BuildKit).
    declared_args: ARG names in the order of the file, for ``RUN |2 a=… b=…`` in the history.
    scan_args: the declared ARGs that are about the SBOM.
    own_labels: names of labels that the Dockerfile sets, rather than the base image.
    """

    def __init__(self, config: ImageConfig, tail: Vertex | None) -> None:
        self.image = config
        self.tail = tail
        self.vertices: list[Vertex] = []
        self.variables: dict[str, str] = {}
        self.declared_args: dict[str, str | None] = {}
        self.scan_args: dict[str, str] = {}
        self.own_labels: frozenset[str] = frozenset()
        self.history: list[History] = list(config.history)
        self.has_own_cmd = False
        for item in config.config.env:
            name, _, value = item.partition("=")
            self.variables[name] = value
        if "PATH" not in self.variables:
            self.variables = {"PATH": DEFAULT_PATH, **self.variables}
            self.set(env=(f"PATH={DEFAULT_PATH}", *config.config.env))

    def child(self) -> StageState:
        """The start of a stage that is ``FROM`` this one.

        It inherits the values of ARGs. They are not its own, so the history of its RUNs does not list them.
        """
        config = msgspec.structs.replace(self.finished(), history=())
        stage = StageState(config, self.tail)
        stage.history = list(self.history)
        stage.variables = dict(self.variables)
        stage.scan_args = dict(self.scan_args)
        stage.own_labels = self.own_labels
        return stage

    def take_triggers(self) -> tuple[str, ...]:
        """Take the base's ONBUILD triggers out of the config, and return them."""
        triggers = self.config.on_build
        self.set(on_build=())
        return triggers

    @property
    def config(self) -> ContainerConfig:
        return self.image.config

    def set(self, **members: Any) -> None:
        """Replace members of the container config."""
        self.image = msgspec.structs.replace(self.image, config=msgspec.structs.replace(self.config, **members))

    def set_labels(self, pairs: Mapping[str, str]) -> None:
        """LABEL."""
        self.own_labels = self.own_labels.union(pairs)
        self.set(labels={**self.config.labels, **pairs})

    def set_author(self, author: str) -> None:
        self.image = msgspec.structs.replace(self.image, author=author)

    def set_env(self, pairs: Iterable[tuple[str, str]]) -> None:
        """ENV: a known name keeps its place."""
        env = dict(item.partition("=")[::2] for item in self.config.env)
        for name, value in pairs:
            env[name] = value
            self._define(name, value)
        self.set(env=tuple(f"{name}={value}" for name, value in env.items()))

    def declare_arg(self, name: str, value: str | None) -> None:
        """ARG. value: None when it is declared but not set."""
        self.declared_args[name] = value
        if value is None:
            return
        if name in SCAN_ARGS:
            self.scan_args[name] = value
        else:
            self._define(name, value)

    def _define(self, name: str, value: str) -> None:
        self.variables.pop(name, None)
        self.variables[name] = value

    def arg_names(self) -> frozenset[str]:
        """The names of variables that come from ARG rather than ENV."""
        return frozenset(self.variables).difference(item.partition("=")[0] for item in self.config.env)

    def shell(self, command: str) -> tuple[str, ...]:
        """The arguments that run ``command`` in shell form."""
        return (*(self.config.shell or _DEFAULT_SHELL), command)

    def run_description(self, args: Sequence[str]) -> str:
        """A RUN as docker's history has it: ``RUN |2 a=1 b=2 /bin/sh -c make``."""
        build_args = [f"{name}={self.variables.get(name, value or '')}" for name, value in self.declared_args.items()]
        counted = [f"|{len(build_args)}", *build_args] if build_args else []
        return "RUN " + " ".join([*counted, *args])

    def record(self, created_by: str, *, layer: bool = False) -> None:
        """Add an entry to the history. Its time is filled in when the layers are known."""
        self.history.append(History(created_by=created_by, comment=_COMMENT, empty_layer=not layer))

    def add(self, vertex: Vertex) -> None:
        self.vertices.append(vertex)
        self.tail = vertex

    def finished(self, labels: Mapping[str, str] | None = None) -> ImageConfig:
        """The stage's config with labels given on the command line, without history and layers."""
        if labels:
            self.set(labels={**self.config.labels, **labels})
        return self.image
