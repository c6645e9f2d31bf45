"""Policies written in Python: what decides, sample by sample, how deep to compute and whether to send."""

from __future__ import annotations

import ctypes
import dataclasses
from typing import Optional

import numpy

from . import _library as c

#: What `Policy.plan()` and `Policy.decide()` may answer besides the index of an exit.
ANSWER, SEND = c.ANSWER, c.SEND


@dataclasses.dataclass
class Reading:
    """What an exit said. `sample` counts from 0; `exit` is its index, of `exits` there are; `confidence` the
    largest probability; `probabilities` float32 (classes), or None in a replay of a trace; `link` "none",
    "up" or "down": samples can be sent where it is up."""

    sample: int
    exit: int
    exits: int
    confidence: float
    class_index: int
    probabilities: Optional[numpy.ndarray]
    link: str

    @property
    def last(self) -> bool:
        """Whether it is the last exit, which always answers."""
        return self.exit + 1 == self.exits


@dataclasses.dataclass
class Outcome:
    """What came of a sample. `route`: "exit", "offload", "fallback" or "final"; `exit` that answered (the last
    one where a server did); `class_index` and `confidence` of the answer; `cost` really paid, in lambda;
    `confidences` float32 (exits), NaN where an exit was not looked at; `class_indices` int64 (exits), -1 there."""

    sample: int
    route: str
    exit: int
    class_index: int
    confidence: float
    cost: float
    confidences: numpy.ndarray
    class_indices: numpy.ndarray


class Policy:
    """Base class of a policy of your own, for `Edge(policy=...)` and `replay(trace, ...)`.

    Samples may overlap, while some wait for a server: all about one sample is known by its number. An
    exception in a method ends the run with that exception. Labels are never seen: a policy learns from
    confidences, classes and costs alone.

        class FirstSure(splitee.Policy):
            def decide(self, reading):
                return splitee.ANSWER if reading.confidence > 0.9 else reading.exit + 1
    """

    def plan(self, sample: int, link: str) -> int:
        """The exit to look at first, 0 for the first one; or SEND, for the input to be sent at once. `sample` 0
        begins a run."""
        return 0

    def decide(self, reading: Reading) -> int:
        """ANSWER (this exit does), SEND (a server does; the last exit where no link is up), or the index of a
        later exit to look at next. The last exit answers in any case."""
        raise NotImplementedError

    def observe(self, outcome: Outcome) -> None:
        """What came of a sample; once for each, in their order, later."""


class Calls:
    """A policy as the library calls it. Keeps the first exception for `check()`."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.problem: Optional[BaseException] = None
        self.calls = c.PolicyCalls(plan=c.PLAN(self._plan), decide=c.DECIDE(self._decide),
                                   observe=c.OBSERVE(self._observe))  # fmt: skip

    def check(self, result: int) -> None:
        """As _library.check(), with the policy's own exception where there was one."""
        problem, self.problem = self.problem, None
        if problem is not None:
            raise problem
        c.check(result)

    def _plan(self, _user: object, sample: int, link: int) -> int:
        try:
            return int(self.policy.plan(sample, c.LINKS[link]))
        except BaseException as problem:
            return self._fail(problem)

    def _decide(self, _user: object, told: "ctypes._Pointer[c.Reading]") -> int:
        try:
            answer = self.policy.decide(reading_of(told.contents))
            return c.ANSWER if answer is None and told.contents.exit + 1 == told.contents.exits else int(answer)
        except BaseException as problem:
            return self._fail(problem)

    def _observe(self, _user: object, told: "ctypes._Pointer[c.Outcome]") -> None:
        try:
            self.policy.observe(outcome_of(told.contents))
        except BaseException as problem:
            self._fail(problem)

    def _fail(self, problem: BaseException) -> int:
        self.problem = self.problem or problem
        return c.FAIL


def reading_of(told: c.Reading) -> Reading:
    probabilities = None
    if told.probabilities:
        probabilities = numpy.ctypeslib.as_array(told.probabilities, (told.classes,)).copy()
    return Reading(told.sample, told.exit, told.exits, told.confidence, told.class_index, probabilities,
                   c.LINKS[told.link])  # fmt: skip


def outcome_of(told: c.Outcome) -> Outcome:
    confidences = numpy.ctypeslib.as_array(told.confidences, (told.exits,)).copy()
    classes = numpy.ctypeslib.as_array(told.class_indices, (told.exits,)).astype(numpy.int64)
    classes[classes == 0xFFFFFFFF] = -1
    class_index = -1 if told.class_index == 0xFFFFFFFF else told.class_index
    return Outcome(told.sample, c.ROUTES[told.route], told.exit, class_index, told.confidence, told.cost,
                   confidences, classes)  # fmt: skip
