"""Whether two CPUs that record at once wait for each other at lockwatt's ring buffer.

    ring_contention.py LOCKWATT [SECONDS]

Two processes, each of two threads that hand a token over on a CPU of its own, are recorded together:
first one of them at work, then both, then the other, six times over. What a run of `lw_switch_all`
takes then, by the kernel's own statistics, is printed for no limit of records, the default limit, and
the default threshold. Needs root, bpftool, and two CPUs.
"""

import json
import mmap
import os
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

PROGRAM = "lw_switch_all"
WAYS = {
    "--min-wait 0, no limit": ["--min-wait", "0", "--max-events-per-sec", "0"],
    "--min-wait 0": ["--min-wait", "0"],
    "default": [],
}


def hand_over(cpu, flags):
    """Two threads hand a token over for as long as flags[cpu] is set."""
    os.sched_setaffinity(0, {cpu})
    one, other = threading.Lock(), threading.Lock()
    other.acquire()

    def work(mine, others):
        turns = 0
        while True:
            mine.acquire()
            others.release()
            turns += 1
            while not turns & 63 and not flags[cpu]:
                time.sleep(0.01)

    for pair in (one, other), (other, one):
        threading.Thread(target=work, args=pair, daemon=True).start()
    signal.pause()


def runs():
    """Nanoseconds and runs of the program so far; zeros while it is not loaded."""
    shown = subprocess.run(["bpftool", "prog", "show", "-j"], capture_output=True, check=True)
    for program in json.loads(shown.stdout):
        if program.get("name") == PROGRAM:
            return program.get("run_time_ns", 0), program.get("run_cnt", 0)
    return 0, 0


def measure(lockwatt, options, folder, flags, pids, seconds):
    """Nanoseconds a run, with one CPU at work and with both."""
    flags[0] = flags[1] = 0
    trace = os.path.join(folder, "t.lockwatt")
    targets = [word for pid in pids for word in ("-p", str(pid))]
    command = [lockwatt, "record", *targets, *options, "--buffer", "262144", "-o", trace]
    recorder = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while recorder.poll() is None and not (os.path.exists(trace) and runs()[1]):
            time.sleep(0.2)
        if recorder.returncode is not None:
            sys.exit(f"lockwatt ended with {recorder.returncode}: {' '.join(command)}")
        found = {1: [], 2: []}
        for working in ((0,), (0, 1), (1,)) * 6:
            for cpu in (0, 1):
                flags[cpu] = cpu in working
            time.sleep(0.3)
            ns, count = runs()
            time.sleep(seconds)
            ns_then, count_then = runs()
            found[len(working)].append((ns_then - ns) / max(1, count_then - count))
        return found
    finally:
        recorder.send_signal(signal.SIGINT)
        recorder.wait()
        if os.path.exists(trace):
            os.remove(trace)  # without a limit it is some hundred megabytes


def spread(values):
    """Median, lowest and highest."""
    return f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


def main():
    lockwatt = sys.argv[1]
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    flags = mmap.mmap(-1, 4096)
    pids = []
    for cpu in (0, 1):
        pid = os.fork()
        if pid == 0:
            hand_over(cpu, flags)
        pids.append(pid)
    statistics_on = "/proc/sys/kernel/bpf_stats_enabled"
    with open(statistics_on) as file:
        before = file.read()
    with open(statistics_on, "w") as file:
        file.write("1")
    try:
        print(f"ns per run of {PROGRAM}: one CPU at work (lowest to highest), both")
        with tempfile.TemporaryDirectory() as folder:
            for way, options in WAYS.items():
                found = measure(lockwatt, options, folder, flags, pids, seconds)
                one, both = (spread(values) for values in found.values())
                print(f"{way:24} {one:22} {both}", flush=True)
    finally:
        with open(statistics_on, "w") as file:
            file.write(before)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


main()
