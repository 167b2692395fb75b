"""From a pipeline file and an event to the jobs of a run: which there are, and what each of them is. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ci import matrix as matrices
from ci.checks import base_name, owner_of
from ci.conditions import Event, is_run_otherwise, why_left_out, why_not_listening
from ci.errors import PipelineFileError
from ci.language.jobs import JOB_SHAPE
from ci.language.limits import MAX_COMBINATIONS, MAX_GROUP, MAX_JOBS
from ci.language.shapes import Reading, Unreadable
from ci.matrix import Combination
from ci.model import Concurrency, Job
from ci.params import resolved
from ci.parsing import ParsedFile
from ci.problems import Problems
from ci.substitution import Placeholder
from ci.substitution import replace as substituted
from ci.templates import Template, replaced_in_job


class PlannedJob(Struct, frozen=True):
    """A job of a run.

    name: ``test``, or of a matrix ``test (3.11)``.
    base: as in the file.
    job: its ``${NAME}`` are replaced, but for exports of jobs before it.
    needs: names of planned jobs, those of whole matrices one by one.
    combination: its values of the matrix.
    template: of which ``job`` was made, for when the exports are there; None: no file describes it, and it is settled.
    """

    name: str
    base: str
    job: Job
    needs: tuple[str, ...]
    combination: Combination
    template: Template | None = None

    def settled(self, facts: Mapping[str, str], exports: Mapping[str, Mapping[str, str]]) -> Job:
        """The job with all of its values. exports: by job and name, of jobs before it. Raises PipelineFileError."""
        if self.template is None:
            return self.job
        return self.template.settled(_known(facts, self.name, self.combination), exports)

    def to_data(self) -> dict[str, Any]:
        """It as plain values, for JSON, without texts that know their places: this goes to a worker."""
        assert self.template is not None, "it was planned from a file"
        return {
            "name": str(self.name),
            "base": str(self.base),
            "needs": [str(name) for name in self.needs],
            "combination": {str(name): str(value) for name, value in self.combination.items()},
            "template": self.template.to_data(),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any], facts: Mapping[str, str]) -> PlannedJob:
        """What ``to_data`` made. facts: those that it was planned with."""
        template = Template.from_data(data["template"])
        values = _values(_known(facts, data["name"], data["combination"]))
        job = template.as_far_as_known(values)
        return cls(data["name"], data["base"], job, tuple(data["needs"]), data["combination"], template)


class Plan(Struct, frozen=True):
    """The jobs of a run, in the order of the file.

    left_out: by name, why; of a matrix without any combination the name is the job's own.
    reason: why the pipeline has nothing to do; empty when there are jobs.
    is_run_otherwise: it has nothing to do because another event runs it with this commit.
    concurrency: of the whole run; None: of none.
    params: the values of all parameters.
    """

    jobs: tuple[PlannedJob, ...]
    left_out: Mapping[str, str]
    reason: str = ""
    is_run_otherwise: bool = False
    concurrency: Concurrency | None = None
    params: Mapping[str, str] = {}


def plan(parsed: ParsedFile, event: Event) -> Plan:
    """Decide what is run. Raises PipelineFileError for what shows only now, such as a value that does not fit, and
    ParamError for a parameter.
    """
    reason = why_not_listening(parsed.pipeline, event)
    if reason is not None:
        return Plan((), {}, reason, is_run_otherwise(parsed.pipeline, event))
    params = resolved(parsed.pipeline.params, event.params)
    return _Planning(parsed, replace(event, params=params, facts={**params, **event.facts})).plan()


def names(parsed: ParsedFile, event: Event) -> list[str]:
    """The names of all jobs that a file has for a commit, whether they are run or not."""
    found = []
    for base, job in parsed.pipeline.jobs.items():
        several = () if job.matrix is None else matrices.combinations(job.matrix, event.directories)
        found += [matrices.name_of(base, each) for each in several[:MAX_COMBINATIONS]] or [base]
    return found


class _Candidate(Struct, frozen=True):
    """A job that may be in the run: whether it is, what it needs decides."""

    base: str
    job: Job
    combination: Combination


class _Planning:
    """One plan while it is made."""

    def __init__(self, parsed: ParsedFile, event: Event) -> None:
        self._parsed = parsed
        self._event = event
        self._problems = Problems(parsed.problems.source)
        self._of_parts: dict[str, Problems] = {}  # by file
        self._candidates: dict[str, _Candidate] = {}
        self._left_out: dict[str, str] = {}

    def plan(self) -> Plan:
        for base, job in self._parsed.pipeline.jobs.items():
            self._expand(base, job)
        self._raise_errors()
        needs = {name: self._needs(name, candidate) for name, candidate in self._candidates.items()}
        self._raise_errors()
        self._leave_out_dependents(needs)
        jobs = tuple(
            PlannedJob(
                name,
                one.base,
                one.job,
                tuple(need for need in needs[name] if need in self._candidates),
                one.combination,
                Template.of(self._parsed.templates[one.base], self._problems_of(one.base).source),
            )
            for name, one in self._candidates.items()
        )
        reason = "" if jobs else "no job of the pipeline is for this"
        return Plan(jobs, self._left_out, reason, concurrency=self._group(), params=self._event.params)

    def _group(self) -> Concurrency | None:
        """The group of the whole run, with its values."""
        asked = self._parsed.pipeline.concurrency
        if asked is None:
            return None
        facts = self._event.facts
        name = substituted(asked.group, lambda reference: facts.get(reference.name, ""))
        if not name.strip() or len(name) > MAX_GROUP:
            shown = f"the name of the run's group is {len(name)} characters long here; it has 1 to {MAX_GROUP}"
            self._problems.error(getattr(asked.group, "span", None), shown)
            self._raise_errors()
        return replace(asked, group=name)

    def _expand(self, base: str, job: Job) -> None:
        """Add a job, or one for each combination; or say why there is none."""
        if job.matrix is None:
            self._consider(base, base, job, {})
            return
        found = matrices.combinations(job.matrix, self._event.directories)
        node = self._parsed.templates[base]
        if len(found) > MAX_COMBINATIONS:
            message = (
                f'the matrix of "{base}" has {len(found)} combinations here; at most {MAX_COMBINATIONS} are possible'
            )
            self._problems_of(base).error(node.span, message)
            return
        if not found:
            self._left_out[base] = "its matrix has no values here"
        for combination in found:
            self._consider(matrices.name_of(base, combination), base, job, combination)

    def _consider(self, name: str, base: str, job: Job, combination: Combination) -> None:
        reason = self._why_left_out(base, job, combination)
        if reason is not None:
            self._left_out[name] = reason
            return
        known = _known(self._event.facts, name, combination)
        node = replaced_in_job(self._parsed.templates[base], _values(known))
        try:
            read = JOB_SHAPE.read(node, Reading(self._problems_of(base)))
        except Unreadable:
            return
        self._candidates[name] = _Candidate(base, read, combination)
        if len(self._candidates) > MAX_JOBS:
            self._problems.error(None, f"a run has at most {MAX_JOBS} jobs, those of matrices counted one by one")
            self._raise_errors()

    def _why_left_out(self, base: str, job: Job, combination: Combination) -> str | None:
        """Why there is no such job. One of a part has the conditions of the job that uses the part, too."""
        brought = self._parsed.of_parts.get(base)
        if brought is None:
            return why_left_out(job.when, self._event, combination)
        of_user = why_left_out(brought.when, self._event, {})
        return of_user or why_left_out(job.when, replace(self._event, params=brought.params), combination)

    def _problems_of(self, base: str) -> Problems:
        """Of the file that has the job."""
        brought = self._parsed.of_parts.get(base)
        if brought is None:
            return self._problems
        if brought.source.filename not in self._of_parts:
            found = self._of_parts[brought.source.filename] = Problems(brought.source)
            self._problems.add(found)
        return self._of_parts[brought.source.filename]

    def _needs(self, name: str, candidate: _Candidate) -> dict[str, bool]:
        """What a job needs by name; True: it is left out with it."""
        found: dict[str, bool] = {}
        job = candidate.job
        wanted = [(need.job, not need.is_optional, need.text) for need in job.needs]
        wanted += [(image.job, True, image.job) for image in job.images if image.job]
        for need, is_required, text in wanted:
            base = base_name(need)
            if need == base:
                names = [
                    other for other, one in self._candidates.items() if one.base == base or owner_of(one.base) == base
                ]
                found.update(dict.fromkeys(names, is_required) if names else {base: is_required})
            elif need in self._candidates or need in self._left_out:
                found[need] = is_required
            else:
                self._problems_of(candidate.base).error(
                    getattr(text, "span", None), f'"{name}" needs "{need}", and the matrix makes no such job'
                )
        return found

    def _leave_out_dependents(self, needs: Mapping[str, Mapping[str, bool]]) -> None:
        """Leave out what needs something that is left out, again and again until nothing changes."""
        is_changed = True
        while is_changed:
            is_changed = False
            for name in list(self._candidates):
                missing = next(
                    (need for need, required in needs[name].items() if required and need not in self._candidates), None
                )
                if missing is not None:
                    del self._candidates[name]
                    self._left_out[name] = f"it needs {missing}, which is left out"
                    is_changed = True

    def _raise_errors(self) -> None:
        if self._problems.has_errors:
            raise PipelineFileError(self._problems)


def _known(facts: Mapping[str, str], name: str, combination: Combination) -> dict[str, str]:
    return {**facts, "SHIPLAP_JOB": name, **combination}


def _values(known: Mapping[str, str]) -> Callable[[Placeholder], str | None]:
    """Facts and values of the matrix; exports are not known yet."""
    return lambda reference: None if reference.job else known.get(reference.name, "")
