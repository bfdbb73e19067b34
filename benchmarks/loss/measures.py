"""Time and memory of a call; knows no loss."""

import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

__all__ = ["peak_bytes", "seconds"]


def seconds(run: Callable[[], None], device: torch.device) -> float:
    """Return how long a call takes: of the processor, or on an accelerator from start to end."""
    if device.type == "cpu":
        started = time.process_time()
        run()
        return time.process_time() - started
    torch.cuda.synchronize(device)
    begun = time.perf_counter()
    run()
    torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def peak_bytes(run: Callable[[], None], device: torch.device) -> float:
    """Return how much a call holds at most at once, beyond what was there before."""
    if device.type != "cpu":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return float(torch.cuda.max_memory_allocated(device) - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    results = profiler.profiler
    assert results is not None
    assert results.kineto_results is not None
    held = peak = 0
    # The profiler's averages add up what operators allocate; what is held at once needs the single events.
    memory = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(memory, key=lambda each: each.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return float(peak)
