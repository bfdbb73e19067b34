"""Many rollouts: bounded, grouped, rolled again on failure, never twice, cancelled together."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from tumbler.contracts.environment import Task
from tumbler.contracts.execution import EpisodeRunner, RolloutRequest
from tumbler.errors import RunError, TooManyFailuresError
from tumbler.rollout.scheduler import Scheduler
from tumbler.trajectory import Chunk, Component, Header, Trajectory

RequestMaker = Callable[..., RolloutRequest]
COMPONENT = Component(id="c", version="1", settings_hash="0")


def finished(request: RolloutRequest, *, failed: bool = False) -> Trajectory:
    header = Header(id=request.id, task=request.task.id, env=COMPONENT, agent=COMPONENT, group=request.group)
    if failed:
        return Trajectory(header=header, status="infra_failed", status_reason="test")
    return Trajectory(header=header, reward=1.0, success=True)


class Execution:
    """Answers with `answer`; counts how many rollouts were in flight at once."""

    capacity = 3

    def __init__(self, answer: Callable[[RolloutRequest], Trajectory]) -> None:
        self._answer = answer
        self.flying = self.most = self.cancelled = 0
        self.submitted: list[str] = []

    async def start(self, runner: EpisodeRunner) -> None: ...

    async def submit(self, request: RolloutRequest) -> Trajectory:
        self.submitted.append(request.id)
        self.flying += 1
        self.most = max(self.most, self.flying)
        try:
            await asyncio.sleep(0.001)
            return self._answer(request)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.flying -= 1

    async def health(self) -> Mapping[str, float]:
        return {}

    async def close(self) -> None: ...


async def ignore(_trajectory: Trajectory) -> None: ...


def requests(make_request: RequestMaker, groups: int = 4, size: int = 3) -> list[RolloutRequest]:
    return [make_request(f"{g}/{m}", group=str(g)) for g in range(groups) for m in range(size)]


async def test_groups_are_full_in_the_order_of_the_requests_and_capacity_holds(make_request: RequestMaker) -> None:
    execution = Execution(finished)
    collected = await Scheduler(execution, attempts=1, failure_share=0).collect(
        requests(make_request), known={}, report=ignore
    )
    assert {group: [each.id for each in trajectories] for group, trajectories in collected.trajectories.items()} == {
        str(g): [f"{g}/{m}" for m in range(3)] for g in range(4)
    }
    assert execution.most == 3


async def test_a_failed_rollout_is_rolled_again_and_counted(make_request: RequestMaker) -> None:
    execution = Execution(lambda request: finished(request, failed=request.attempt == 0 and request.id == "1/2"))
    reported: list[str] = []

    async def report(trajectory: Trajectory) -> None:
        reported.append(trajectory.id)

    collected = await Scheduler(execution, attempts=2, failure_share=0).collect(
        requests(make_request), known={}, report=report
    )
    assert (collected.failures, collected.lost) == (1, 0)
    assert [each.id for each in collected.trajectories["1"]] == ["1/0", "1/1", "1/2~1"]
    assert sorted(reported) == sorted([*[f"{g}/{m}" for g in range(4) for m in range(3)], "1/2~1"])


async def test_a_rollout_lost_in_every_attempt_is_missing_not_zero(make_request: RequestMaker) -> None:
    execution = Execution(lambda request: finished(request, failed=request.id.startswith("1/2")))
    collected = await Scheduler(execution, attempts=3, failure_share=0.5).collect(
        requests(make_request), known={}, report=ignore
    )
    assert (collected.failures, collected.lost) == (3, 1)
    assert len(collected.trajectories["1"]) == 2


async def test_too_many_lost_rollouts_end_the_run_with_their_reasons(make_request: RequestMaker) -> None:
    execution = Execution(lambda request: finished(request, failed=True))
    with pytest.raises(TooManyFailuresError, match="12 of 12 rollouts failed in all 2 attempts"):
        await Scheduler(execution, attempts=2, failure_share=0.5).collect(
            requests(make_request), known={}, report=ignore
        )


async def test_dispensable_rollouts_may_all_be_lost(make_request: RequestMaker) -> None:
    execution = Execution(lambda request: finished(request, failed=True))
    collected = await Scheduler(execution, attempts=2, failure_share=0).collect(
        requests(make_request), known={}, report=ignore, dispensable=True
    )
    assert (collected.failures, collected.lost) == (24, 12)
    assert collected.trajectories == {str(group): [] for group in range(4)}


async def test_all_attempts_count_what_was_sampled_in_them_known_or_not(make_request: RequestMaker) -> None:
    def answer(request: RolloutRequest) -> Trajectory:
        chunk = Chunk(segment=0, start=0, end=10 ** len(spent), text="", policy_version=0)
        spent[request.id] = chunk.end
        return replace(finished(request, failed=request.attempt == 0), chunks=(chunk,))

    spent: dict[str, int] = {}
    reported: dict[str, Trajectory] = {}

    async def report(trajectory: Trajectory) -> None:
        reported[trajectory.id] = trajectory

    def drop_second(trajectory: Trajectory) -> str:
        return "odd" if trajectory.id.endswith("~1") else ""

    wanted = [make_request("0/0", group="0"), make_request("1/0", group="1")]
    scheduler = Scheduler(Execution(answer), attempts=3, failure_share=0)
    first = await scheduler.collect(wanted, known={}, report=report, reject=drop_second)
    assert first.sampled_tokens == sum(spent.values()) == 111111
    again = await scheduler.collect(wanted, known=reported, report=report, reject=drop_second)
    assert again.sampled_tokens == 111111


async def test_known_rollouts_are_not_run_again(make_request: RequestMaker) -> None:
    wanted = requests(make_request)
    known = {request.id: finished(request) for request in wanted[::2]}
    execution = Execution(finished)
    collected = await Scheduler(execution, attempts=1, failure_share=0).collect(wanted, known=known, report=ignore)
    assert sorted(execution.submitted) == sorted(request.id for request in wanted[1::2])
    assert sum(map(len, collected.trajectories.values())) == 12


async def test_known_failed_attempts_are_not_repeated(make_request: RequestMaker) -> None:
    wanted = requests(make_request, groups=1, size=1)
    known = {"0/0": finished(wanted[0], failed=True)}
    execution = Execution(finished)
    await Scheduler(execution, attempts=2, failure_share=0).collect(wanted, known=known, report=ignore)
    assert execution.submitted == ["0/0~1"]


async def test_a_record_of_another_task_is_refused(make_request: RequestMaker) -> None:
    (wanted,) = requests(make_request, groups=1, size=1)
    other = finished(make_request("0/0", task=Task(id="other", instruction="")))
    with pytest.raises(RunError, match="start a new run"):
        await Scheduler(Execution(finished), attempts=1, failure_share=0).collect(
            [wanted], known={"0/0": other}, report=ignore
        )


async def test_an_error_cancels_what_is_in_flight(make_request: RequestMaker) -> None:
    def answer(request: RolloutRequest) -> Trajectory:
        raise RuntimeError("broken backend")

    execution = Execution(answer)
    with pytest.raises(RuntimeError, match="broken backend"):
        await Scheduler(execution, attempts=1, failure_share=0).collect(requests(make_request), known={}, report=ignore)
    assert execution.flying == 0


async def test_a_rejected_rollout_is_dropped_and_starts_again_with_another_seed(make_request: RequestMaker) -> None:
    seeds: list[int] = []

    def answer(request: RolloutRequest) -> Trajectory:
        seeds.append(request.seed)
        return finished(request)

    reported: list[tuple[str, str]] = []

    async def report(trajectory: Trajectory) -> None:
        reported.append((trajectory.id, trajectory.status))

    collected = await Scheduler(Execution(answer), attempts=3, failure_share=0).collect(
        [make_request("0/0", group="0")],
        known={},
        report=report,
        reject=lambda trajectory: "" if trajectory.id.endswith("~2") else "odd",
    )
    assert reported == [("0/0", "dropped"), ("0/0~1", "dropped"), ("0/0~2", "completed")]
    assert len(set(seeds)) == 3
    assert collected.dropped == {"odd": 2}
    assert (collected.failures, collected.lost) == (0, 0)
    assert [each.id for each in collected.trajectories["0"]] == ["0/0~2"]


async def test_a_rollout_that_starts_again_keeps_its_place(make_request: RequestMaker) -> None:
    execution = Execution(finished)
    execution.capacity = 1
    await Scheduler(execution, attempts=2, failure_share=0).collect(
        requests(make_request, groups=2, size=1),
        known={},
        report=ignore,
        reject=lambda trajectory: "odd" if trajectory.id == "0/0" else "",
    )
    assert execution.submitted == ["0/0", "0/0~1", "1/0"]


async def test_a_recorded_drop_is_not_run_again(make_request: RequestMaker) -> None:
    (wanted,) = requests(make_request, groups=1, size=1)
    known = {"0/0": replace(finished(wanted), status="dropped", status_reason="odd")}
    execution = Execution(finished)
    collected = await Scheduler(execution, attempts=2, failure_share=0).collect([wanted], known=known, report=ignore)
    assert execution.submitted == ["0/0~1"]
    assert collected.dropped == {"odd": 1}


async def test_what_follows_a_group_starts_while_others_still_run(make_request: RequestMaker) -> None:
    release = asyncio.Event()

    class Slow(Execution):
        async def submit(self, request: RolloutRequest) -> Trajectory:
            if request.group == "slow":
                await release.wait()
            if request.group == "next":
                release.set()
            return await super().submit(request)

    async def follow(group: str, trajectories: object) -> list[RolloutRequest]:
        return [make_request("next/0", group="next")] if group == "0" else []

    wanted = [make_request("slow/0", group="slow"), make_request("0/0", group="0")]
    collected = await asyncio.wait_for(
        Scheduler(Slow(finished), attempts=1, failure_share=0).collect(wanted, known={}, report=ignore, follow=follow),
        timeout=20,
    )
    assert list(collected.trajectories) == ["slow", "0", "next"], "in the order of the requests, not of the finish"
    assert collected.requested == 3


async def test_calls_that_overlap_share_the_capacity(make_request: RequestMaker) -> None:
    execution = Execution(finished)
    scheduler = Scheduler(execution, attempts=1, failure_share=0)

    async def follow(group: str, trajectories: object) -> list[RolloutRequest]:
        await scheduler.collect(
            [make_request(f"{group}/more/{index}", group=f"{group}/more") for index in range(3)],
            known={},
            report=ignore,
        )
        return []

    await scheduler.collect(requests(make_request), known={}, report=ignore, follow=follow)
    assert len(execution.submitted) == 24
    assert execution.most == 3


async def test_an_error_in_what_follows_ends_the_call(make_request: RequestMaker) -> None:
    async def follow(group: str, trajectories: object) -> list[RolloutRequest]:
        raise RuntimeError("no more tasks")

    execution = Execution(finished)
    with pytest.raises(RuntimeError, match="no more tasks"):
        await Scheduler(execution, attempts=1, failure_share=0).collect(
            requests(make_request), known={}, report=ignore, follow=follow
        )
    assert execution.flying == 0


async def test_a_group_is_complete_without_its_spare_rollouts_and_slow_ones_are_cut(make_request: RequestMaker) -> None:
    class Uneven(Execution):
        capacity = 12

        async def submit(self, request: RolloutRequest) -> Trajectory:
            if request.id.endswith("/1"):
                await asyncio.sleep(3600)
            return await super().submit(request)

    collected = await Scheduler(Uneven(finished), attempts=1, failure_share=0).collect(
        requests(make_request), known={}, report=ignore, spares=1
    )
    assert [[each.id for each in group] for group in collected.trajectories.values()] == [
        [f"{g}/0", f"{g}/2"] for g in range(4)
    ]
    assert (collected.lost, sum(not span.finished for span in collected.spans)) == (0, 4)


async def test_no_rollout_runs_beside_known_ones_that_are_enough(make_request: RequestMaker) -> None:
    execution = Execution(finished)
    wanted = requests(make_request, groups=1)
    known = {each.id: finished(each) for each in wanted[1:]}
    collected = await Scheduler(execution, attempts=1, failure_share=0).collect(
        wanted, known=known, report=ignore, spares=1
    )
    assert [each.id for each in collected.trajectories["0"]] == ["0/1", "0/2"]
    assert execution.submitted == []


async def test_each_group_is_told_of_as_soon_as_it_is_complete(make_request: RequestMaker) -> None:
    told: list[list[str]] = []
    await Scheduler(Execution(finished), attempts=1, failure_share=0).collect(
        requests(make_request),
        known={},
        report=ignore,
        settle=lambda part: told.append([each.id for group in part.trajectories.values() for each in group]),
    )
    assert sorted(told) == [[f"{g}/{m}" for m in range(3)] for g in range(4)]


async def test_rollouts_of_a_lower_rank_are_begun_first(make_request: RequestMaker) -> None:
    execution = Execution(finished)
    scheduler = Scheduler(execution, attempts=1, failure_share=0)
    later = [make_request(f"later/{number}", group=f"later/{number}") for number in range(6)]
    sooner = [make_request(f"sooner/{number}", group=f"sooner/{number}") for number in range(3)]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(scheduler.collect(later, known={}, report=ignore, rank=1))
        await asyncio.sleep(0)
        tasks.create_task(scheduler.collect(sooner, known={}, report=ignore, rank=0))
    assert [name.split("/")[0] for name in execution.submitted] == ["later"] * 3 + ["sooner"] * 3 + ["later"] * 3
