"""GiGPO's advantages: among episodes, and among chunks that began in equal states (arXiv 2505.10978). No tensor."""

from collections import defaultdict
from collections.abc import Hashable, Sequence

from tumbler.trajectory.record import Chunk, Trajectory
from tumbler_algorithms.gigpo.settings import GiGPOSettings, State
from tumbler_algorithms.parts.baselines import Baseline, centre
from tumbler_algorithms.parts.calls import call_text
from tumbler_algorithms.parts.groups import alike
from tumbler_algorithms.parts.rewards import chunk_rewards, final_reward, total_reward

__all__ = ["step_credits"]


def step_credits(trajectories: Sequence[Trajectory], settings: GiGPOSettings) -> list[list[float]]:
    """Return A = A_episode + ω A_step of each chunk of each trajectory of one group (4.3).

    Chunks that RL may not train and all chunks of trajectories without a verdict have advantage 0, and are
    compared with nothing. So has a chunk whose state no other chunk began in, but for its episode's.
    """
    baseline: Baseline = "whiten" if settings.divide_by_std else "mean"
    judged = [place for place, each in enumerate(trajectories) if each.judged]
    finals = {place: final_reward(trajectories[place]) for place in judged}
    totals = [total_reward(trajectories[place], finals[place], settings.turn_rewards) for place in judged]
    episodes = centre(totals, baseline)
    credited = [[0.0] * len(each.chunks) for each in trajectories]
    for place, advantage in zip(judged, episodes, strict=True):
        credited[place] = alike(trajectories[place], advantage)
    returns = {
        place: _discounted(chunk_rewards(trajectories[place], finals[place], settings.turn_rewards), settings.gamma)
        for place in judged
    }
    for members in _same_state([(place, trajectories[place]) for place in judged], settings.state):
        steps = centre([returns[place][index] for place, index in members], baseline)
        for (place, index), advantage in zip(members, steps, strict=True):
            credited[place][index] += settings.step_weight * advantage
    return credited


def _discounted(rewards: Sequence[float], gamma: float) -> list[float]:
    """Return R_t = Σ_{k≥t} γ^{k-t} r_k (4.2)."""
    following, backwards = 0.0, []
    for reward in reversed(rewards):
        following = reward + gamma * following
        backwards.append(following)
    return backwards[::-1]


def _same_state(trajectories: Sequence[tuple[int, Trajectory]], state: State) -> list[list[tuple[int, int]]]:
    """Return the step-level groups (4.2): the (place, chunk) of all trainable chunks that began in one state."""
    groups: defaultdict[Hashable, list[tuple[int, int]]] = defaultdict(list)
    for place, trajectory in trajectories:
        for index, key in enumerate(_states(trajectory, state)):
            chunk = trajectory.chunks[index]
            if chunk.trainable and not chunk.replayed:
                groups[key].append((place, index))
    return list(groups.values())


def _states(trajectory: Trajectory, state: State) -> list[Hashable]:
    """Return what stands for the state before each chunk.

    That is all tokens before it, or what the agent was last shown, or that and the call which it answered; an
    agent's first chunk is known by its tokens in any case, and so is one after an answer without a word, unless
    answers alone are asked for.
    """
    last: dict[str, Chunk] = {}
    keys: list[Hashable] = []
    for chunk in trajectory.chunks:
        agent = trajectory.segments[chunk.segment].agent_id
        before = last.get(agent)
        if before is not None and state == "observation":
            keys.append((agent, before.observation))
        elif before is not None and state == "turn" and before.observation.strip():
            keys.append((agent, call_text(before), before.observation))
        else:
            keys.append((agent, _prompt(trajectory, chunk)))
        last[agent] = chunk
    return keys


def _prompt(trajectory: Trajectory, chunk: Chunk) -> tuple[int, ...]:
    return trajectory.segments[chunk.segment].token_ids[: chunk.start]
