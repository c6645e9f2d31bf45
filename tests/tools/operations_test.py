#!/usr/bin/env python3
"""What operators do to splitee-edge and splitee-server: log rotation, hang-ups, pipes and FIFOs that
nobody reads or writes, full disks, state files that are mounted, linked, empty or shared, few
resources. A wait in these tests ends by an event; TIMEOUT_S only turns a hang into a failure."""

import contextlib
import fcntl
import json
import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
import termios
import threading
import time

from binaries import (EDGE, MODEL, SERVER, TIMEOUT_S, TOOL, LiveEdge, Server, edge, lines, main, make_texts,
                      patiently, read, records_of, run, wait_until_blocked, write)  # fmt: skip

TEXTS = make_texts(60)
CAN_UNSHARE = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0
FIXED = ("--policy", "fixed", "--split", "1", "--alpha", "0")


@contextlib.contextmanager
def started(command, **streams):
    process = subprocess.Popen([str(word) for word in command], **streams)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(TIMEOUT_S)


def full_pipe():
    """Both ends of a pipe that has no room left."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    return reader, writer


def flapping_server():
    """Flags of an edge whose offloads fail again and again, each telling about it."""
    return ("--server", "tcp://127.0.0.1:1", "--connect-ms", "10", "--policy", "offload")


# Messages that nobody reads.


def test_messages_never_hold_an_edge_up(folder):
    reader, writer = full_pipe()
    path = write(folder, "in.txt", lines(TEXTS))
    output = os.path.join(folder, "out")
    with started([EDGE, "--model", MODEL, "--input", path, "--output", output, *flapping_server()],
                 stderr=writer) as process:
        assert process.wait(TIMEOUT_S) == 0  # its notices, and its summary
    assert read(output).count(b"\n") == len(TEXTS)
    # An error has its status, though nobody reads why.
    with started([EDGE, "--model", "/no/such"], stderr=writer) as process:
        assert process.wait(TIMEOUT_S) == 1
    os.close(reader)
    os.close(writer)


def test_a_signal_ends_an_edge_whose_messages_are_stuck(folder):
    reader, writer = full_pipe()
    with started([EDGE, "--model", MODEL, "--output", os.path.join(folder, "out"), *flapping_server()],
                 stdin=subprocess.PIPE, stderr=writer) as process:
        process.stdin.write(lines(TEXTS).encode())
        process.stdin.flush()
        wait_until_blocked(process.pid)
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
    os.close(reader)
    os.close(writer)


def test_lost_messages_are_told(folder):
    """Once the pipe is read again."""
    reader, writer = full_pipe()
    fifo = os.path.join(folder, "in")
    os.mkfifo(fifo)
    bad = ("--input-format", "tsv", "--input", fifo, "--output", "/dev/null")
    with started([EDGE, "--model", MODEL, *bad], stderr=writer) as process:
        with open(fifo, "w") as stream:
            stream.write("text\tlabel\nba\n")  # told to nobody
            stream.flush()
            # Taken once nothing of it is left in the FIFO, and told before the next line is waited for.
            patiently(lambda: fcntl.ioctl(stream, termios.FIONREAD, bytes(4)) == bytes(4))
            patiently(lambda: read(f"/proc/{process.pid}/wchan") not in (b"", b"0"))
            os.set_blocking(reader, False)
            with contextlib.suppress(BlockingIOError):
                while os.read(reader, 65536):
                    pass
            os.close(writer)
            stream.write("de\n")
        os.set_blocking(reader, True)
        with open(reader, "rb") as messages:
            text = messages.read().decode(errors="replace")
        assert process.wait(TIMEOUT_S) == 1
    assert "line 3" in text and "line 2" not in text and "messages are missing" in text, text[-2000:]


def test_messages_never_hold_a_server_up(_):
    reader, writer = full_pipe()
    command = [SERVER, "--model", MODEL, "--bind", "tcp://127.0.0.1:*"]
    with started(command, stdout=subprocess.PIPE, stderr=writer) as process:
        endpoint = process.stdout.readline().split()[-1].decode()
        records = records_of("--server", endpoint, "--policy", "offload", stdin=lines(TEXTS))
        assert {record["route"] for record in records} == {"offload"}
        process.send_signal(signal.SIGHUP)  # it tells of the reload
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
    # "listening on" that nobody reads.
    with started(command, stdout=writer, stderr=subprocess.PIPE) as process:
        message = b""
        while b"listening on tcp://" not in message:
            message += process.stderr.readline()
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
    os.close(reader)
    os.close(writer)


# FIFOs.


def test_fifos_wait_and_signals_end_the_wait(folder):
    for flag in ("--input", "--output"):
        fifo = os.path.join(folder, flag[2:])
        os.mkfifo(fifo)
        path = write(folder, "in.txt", lines(TEXTS))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            flags = ("--input", fifo) if flag == "--input" else ("--input", path, "--output", fifo)
            with started([EDGE, "--model", MODEL, *flags], stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE) as process:
                wait_until_blocked(process.pid)
                process.send_signal(number)
                status, message = process.wait(TIMEOUT_S), process.stderr.read().decode()
            if flag == "--input":
                assert status == 0 and "stopped by a signal" in message, message
            else:
                assert status == 1 and "cannot open for writing" in message, message


def test_fifos_carry_samples_and_records(folder):
    names = [os.path.join(folder, name) for name in ("in", "out")]
    for name in names:
        os.mkfifo(name)
    command = [EDGE, "--model", MODEL, "--quiet", "--policy", "final", "--input", names[0], "--output", names[1]]
    with started(command) as process:
        writing = threading.Thread(target=write, args=(folder, "in", lines(TEXTS * 20)))
        writing.start()
        with open(names[1]) as records:
            ids = [json.loads(line)["id"] for line in records]
        writing.join(TIMEOUT_S)
        assert process.wait(TIMEOUT_S) == 0
    assert ids == list(range(20 * len(TEXTS)))


def test_a_stalled_reader_and_a_signal(folder):
    path = write(folder, "in.txt", "ba\n" * 20_000)
    reader, writer = os.pipe()
    # Another program has the same pipe and takes the room that there seems to be.
    with started([EDGE, "--model", MODEL, "--quiet", "--input", path], stdout=writer) as one, \
            started([EDGE, "--model", MODEL, "--quiet", "--input", path], stdout=writer) as other:
        seen = [-1]

        def full():
            held = int.from_bytes(fcntl.ioctl(reader, termios.FIONREAD, bytes(4)), sys.byteorder)
            before, seen[0] = seen[0], held
            return held > 60_000 and held == before

        patiently(full)
        for process in (one, other):
            process.terminate()
            assert process.wait(TIMEOUT_S) == 1
    os.close(reader)
    os.close(writer)


# Log rotation and hang-ups.


def test_rotated_by_truncation(folder):
    output = os.path.join(folder, "out")
    with LiveEdge("--quiet", "--output", output) as live:
        for count in (3, 2):
            for text in TEXTS[:count]:
                live.process.stdin.write(text.encode() + b"\n")
                live.process.stdin.flush()
            patiently(lambda count=count: os.path.exists(output) and read(output).count(b"\n") == count)
            os.truncate(output, 0)
        live.process.stdin.write(b"ba\n")
        live.finish()
    (record,) = [json.loads(line) for line in read(output).splitlines()]
    assert record["id"] == 5


def test_rotated_by_renaming(folder):
    output = os.path.join(folder, "out")
    with LiveEdge("--quiet", "--output", output) as live:
        for round_ in range(3):
            live.process.stdin.write(b"ba\nde\n")
            live.process.stdin.flush()
            patiently(lambda: os.path.exists(output) and read(output).count(b"\n") == 2)
            os.rename(output, f"{output}.{round_}")
            live.process.send_signal(signal.SIGHUP)
        live.process.stdin.write(b"fi\n")
        live.finish()
    ids = [json.loads(line)["id"] for name in ("out.0", "out.1", "out.2", "out")
           for line in read(os.path.join(folder, name)).splitlines()]  # fmt: skip
    assert ids == list(range(7)), ids


def test_hangup_ends_what_cannot_be_opened_anew(folder):
    state = os.path.join(folder, "state")
    with LiveEdge("--state", state) as live:
        for text in TEXTS[:5]:
            live.classify(text)
        live.process.send_signal(signal.SIGHUP)
        assert live.process.wait(TIMEOUT_S) == 0, live.messages()
        assert "stopped by a signal" in live.messages()
    assert read(state)
    # Under nohup it is ignored, as everywhere.
    nohup = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    with started([EDGE, "--model", MODEL, "--quiet"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                 preexec_fn=nohup) as process:  # fmt: skip
        wait_until_blocked(process.pid)
        process.send_signal(signal.SIGHUP)
        out, _ = process.communicate(b"ba\n", TIMEOUT_S)
        assert process.returncode == 0 and out.count(b"\n") == 1


def test_append(folder):
    output = os.path.join(folder, "out")
    flags = ("--quiet", "--output", output)
    edge(*flags, stdin="ba\nde\n")
    first = read(output)
    edge(*flags, "--append", stdin="fi\n")
    assert read(output).startswith(first) and read(output).count(b"\n") == 3
    # A record that a crash has cut stays, on a line of its own.
    write(folder, "out", first[:-20])
    edge(*flags, "--append", stdin="fi\n")
    cut, record = read(output).splitlines()[-2:]
    assert first.splitlines()[1].startswith(cut) and json.loads(record)["id"] == 0
    edge(*flags, stdin="ba\n")
    assert read(output).count(b"\n") == 1


# Disks.


def test_full_disk_leaves_whole_records(folder):
    path = write(folder, "in.txt", "ba\n" * 2000)
    output = os.path.join(folder, "out")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, resource.RLIM_INFINITY))  # noqa: E731
    command = [EDGE, "--model", MODEL, "--policy", "final", "--input", path, "--output", output]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False, preexec_fn=limit)
    ids = [json.loads(line)["id"] for line in read(output).splitlines()]
    assert read(output).endswith(b"}\n") and ids == list(range(len(ids))) and 0 < len(ids) < 2000
    message = done.stderr.decode()
    assert done.returncode == 1 and "out: cannot write: File too large" in message, message
    assert f"{len(ids)} whole record(s) were written, from sample {len(ids)} on" in message, message
    if not CAN_UNSHARE:
        return print("  no mount namespaces: the rest is skipped")
    os.mkdir(os.path.join(folder, "disk"))
    script = ('mount -t tmpfs -o size=64k none "$0"; "$@" --output "$0/out"; status=$?; '
              'tail -c 2 "$0/out" | od -An -c; exit $status')
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, os.path.join(folder, "disk"), *command[:-2]],
                          capture_output=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 1 and done.stdout.split() == [b"}", b"\\n"], done
    assert b"No space left on device" in done.stderr and b"from sample" in done.stderr, done


def test_endless_line(folder):
    path = os.path.join(folder, "in")
    with open(path, "wb") as file:
        file.write(b"ba\n" + b"a" * (70 << 20) + b"\nde\n" + b"b" * (65 << 20))
    result = edge("--input", path, "--policy", "final", status=None).expect(1, "line 2: longer than 64 MiB", "line 4")
    assert [record["id"] for record in result.records] == [0, 1], result
    with open(path, "rb") as stream:
        piped = subprocess.run(["sh", "-c", 'cat | "$0" --model "$1" --policy final', EDGE, MODEL], stdin=stream,
                               capture_output=True, timeout=TIMEOUT_S, check=False)
    assert piped.returncode == 1 and piped.stdout.count(b"\n") == 2 and b"line 4" in piped.stderr, piped.stderr
    write(folder, "in", b"x" * (65 << 20) + b"\nba\n")
    edge("--input", path, "--input-format", "tsv", status=None).expect(1, "line 1: longer than 64 MiB")


# State files.


def splits(*flags):
    return [record["split"] for record in records_of("--policy", "splitee", "--alpha", "0.8", *flags,
                                                     stdin=lines(TEXTS[:20]))]  # fmt: skip


def test_state_empty_linked_and_moded(folder):
    empty = write(folder, "empty", b"")
    fresh = splits()
    result = edge("--policy", "splitee", "--alpha", "0.8", "--state", empty, stdin=lines(TEXTS[:20]))
    assert "is empty; the policy starts anew" in result.err and read(empty), result
    assert [record["split"] for record in result.records] == fresh
    os.chmod(empty, 0o640)
    os.mkdir(os.path.join(folder, "data"))
    link = os.path.join(folder, "link")
    os.symlink("data/state", link)
    splits("--state", link)  # made where the link leads
    first = read(os.path.join(folder, "data/state"))
    splits("--state", link)
    assert os.path.islink(link) and read(os.path.join(folder, "data/state")) != first
    splits("--state", empty)
    assert os.stat(empty).st_mode & 0o777 == 0o640
    assert sorted(os.listdir(folder)) == ["data", "empty", "link"] and os.listdir(os.path.join(folder, "data")) == ["state"]


def test_state_of_one_edge_at_a_time(folder):
    state = os.path.join(folder, "state")
    with LiveEdge("--state", state, *FIXED) as live:
        live.classify("ba")
        result = edge("--state", state, *FIXED, stdin="ba\n", status=None).expect(1, state, "another process")
        assert result.out == "", result
        live.finish()
    edge("--state", state, *FIXED, stdin="ba\n")
    if not CAN_UNSHARE:
        return print("  no process namespaces: the rest is skipped")
    # Both are process 1 of their own container; one is refused, neither harms the file.
    with started(["unshare", "-p", "--fork", EDGE, "--model", MODEL, "--quiet", "--state", state, *FIXED],
                 stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:  # fmt: skip
        one.stdin.write(b"ba\n")
        one.stdin.flush()
        assert one.stdout.readline()
        other = subprocess.run(["unshare", "-p", "--fork", EDGE, "--model", MODEL, "--state", state, *FIXED],
                               input=b"ba\n", capture_output=True, timeout=TIMEOUT_S, check=False)
        assert other.returncode == 1 and b"another process" in other.stderr, other
        one.stdin.close()
        assert one.wait(TIMEOUT_S) == 0
    edge("--state", state, *FIXED, stdin="ba\n")
    assert os.listdir(folder) == ["state"]


def test_state_on_a_disk_that_does_not_answer(folder):
    """Samples go on, a signal ends the program, and what was saved before stays."""
    state, gate = os.path.join(folder, "state"), write(folder, "gate", b"")

    class StuckEdge(LiveEdge):
        module = os.path.join(os.path.dirname(MODEL), "stuck_fsync.so")
        command = ["env", f"LD_PRELOAD={module}", f"STUCK_FSYNC={gate}", EDGE]

    before = splits("--state", state)
    saved = read(state)
    flags = ("--policy", "splitee", "--alpha", "0.8", "--state", state)
    with StuckEdge(*flags) as live:
        for _ in range(2_500):  # a save begins every 1,000
            live.classify("ba")
        live.process.send_signal(signal.SIGTERM)
        assert live.process.wait(TIMEOUT_S) == 1, live.messages()
        assert "state not saved" in live.messages() and "does not answer" in live.messages(), live.messages()
        assert live.messages().split().count("2500") == 1, live.messages()
    assert read(state) == saved and before
    # One that comes back in time loses nothing.
    with StuckEdge(*flags) as live:
        for _ in range(1_500):
            live.classify("ba")
        live.process.stdin.close()
        threading.Timer(0.2, os.remove, (gate,)).start()
        assert live.process.wait(TIMEOUT_S) == 0, live.messages()
    assert read(state) != saved


def test_state_mounted_by_itself(folder):
    if not CAN_UNSHARE:
        return print("  no mount namespaces: skipped")
    inside, outside = write(folder, "inside", b""), write(folder, "outside", b"")
    script = 'mount --bind "$1" "$0"; shift; exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, inside, outside, EDGE, "--model", MODEL, "--state", inside,
               "--policy", "splitee", "--alpha", "0.8"]  # fmt: skip
    states = [b""]
    for round_ in range(2):
        done = subprocess.run(command, input=lines(TEXTS[20 * round_ : 20 * round_ + 20]).encode(),
                              capture_output=True, timeout=TIMEOUT_S, check=False)
        assert done.returncode == 0 and b"written into as it is" in done.stderr, done
        assert done.stderr.count(b"written into") == 1, done
        states.append(read(outside))
        assert states[-1] not in states[:-1]
    plain = os.path.join(folder, "plain")
    for texts in (TEXTS[:20], TEXTS[20:40]):
        records_of("--policy", "splitee", "--alpha", "0.8", "--state", plain, stdin=lines(texts))
    assert read(plain) == states[-1]
    assert sorted(os.listdir(folder)) == ["inside", "outside", "plain"]


# Few resources.


def limited(command, what, least, most=None):
    def limit():
        resource.setrlimit(what, (least, least if most is None else most))

    return subprocess.run([str(word) for word in command], input=b"ba\n", capture_output=True, timeout=TIMEOUT_S,
                          check=False, preexec_fn=limit)  # fmt: skip


def test_few_descriptors(_):
    """Said at the start, never an abort of a library in the middle."""
    for count in (6, 8, 9, 10, 11, 12, 14, 20, 26, 27, 28, 29, 30, 64):
        command = [EDGE, "--model", MODEL, "--quiet", *flapping_server()]
        done = limited(command, resource.RLIMIT_NOFILE, count)
        if done.returncode != 0:
            assert done.returncode == 1 and b"open files" in done.stderr, (count, done)
        else:
            assert done.stdout.count(b"\n") == 1, (count, done)
    assert done.returncode == 0
    # A low limit that may be raised is.
    assert limited(command, resource.RLIMIT_NOFILE, 8, 64).returncode == 0
    for count in (6, 8, 10, 14, 20, 32):
        done = limited([SERVER, "--model", MODEL, "--bind", "tcp://127.0.0.1:*"], resource.RLIMIT_NOFILE, count)
        assert done.returncode == 1 and b"open files" in done.stderr, (count, done)


def test_little_address_space(_):
    size = os.path.getsize(EDGE) >> 10
    for kib in range(size + 6_000, size + 80_000, 12_000):
        for command, sound in ((EDGE, 0), (TOOL, 0)):
            flags = ["--model", MODEL, "--quiet", *flapping_server()] if command == EDGE else ["inspect", MODEL]
            done = limited([command, *flags], resource.RLIMIT_AS, kib << 10)
            # Where not even the loader has room, it says so with 127.
            assert done.returncode in (sound, 1, 127) and (done.returncode == sound or done.stderr), (kib, done)


def test_few_threads(folder):
    """Told with the number that is needed."""
    if os.getuid() != 0:
        return print("  needs another user's limits: skipped")
    os.chmod(folder, 0o755)
    program = shutil.copy(EDGE, os.path.join(folder, "edge"))
    model = shutil.copy(MODEL, os.path.join(folder, "model"))

    def few():
        resource.setrlimit(resource.RLIMIT_NPROC, (2, 2))
        os.setgid(54321)
        os.setuid(54321)

    done = subprocess.run([program, "--model", model, *flapping_server()], input=b"ba\n", capture_output=True,
                          timeout=TIMEOUT_S, check=False, preexec_fn=few)  # fmt: skip
    assert done.returncode == 1 and b"threads are needed" in done.stderr, done


# Servers that do not answer.


def test_a_signal_does_not_wait_for_servers(folder):
    """Offloads in progress have no hour left, though their deadline says so."""
    with Server() as server:
        flags = ("--server", server.endpoint, "--policy", "offload", "--deadline-ms", "3600000", "--window", "4")
        with LiveEdge(*flags) as live:
            live.until_route("offload", "ba")
            server.send(signal.SIGSTOP)
            live.process.stdin.write(lines(TEXTS[:20]).encode())
            live.process.stdin.flush()
            live.process.terminate()
            assert live.process.wait(TIMEOUT_S) == 0, live.messages()
            rest = []
            while True:
                line = live.lines.get(timeout=TIMEOUT_S) if not live.lines.empty() else None
                if line is None:
                    break
                rest.append(json.loads(line))
            assert all(record["route"] == "fallback" for record in rest), rest
        server.send(signal.SIGCONT)


def test_a_signal_while_a_server_reads_its_model(folder):
    model = os.path.join(folder, "model.gguf")
    shutil.copy(MODEL, model)
    with Server(model=model) as server:
        for _ in range(20):
            server.send(signal.SIGHUP)
        server.send(signal.SIGTERM)
        assert server.wait()[0] == 0, server.messages()


# Progress.


def on_a_terminal(command, **streams):
    """What a program shows on a terminal that its standard error is."""
    leader, follower = pty.openpty()
    with started(command, stderr=follower, **streams) as process:
        os.close(follower)
        shown = b""
        with contextlib.suppress(OSError):
            while piece := os.read(leader, 65536):
                shown += piece
        os.close(leader)
        assert process.wait(TIMEOUT_S) == 0, shown
    return shown.decode()


def test_progress_where_somebody_watches(folder):
    path = write(folder, "in.txt", lines(TEXTS))
    trace = os.path.join(folder, "trace.csv")
    commands = [
        [TOOL, "trace", "--model", MODEL, "--input", path, "--output", trace],
        [TOOL, "replay", "--trace", trace, "--policy", "splitee", "--runs", "20"],
        [EDGE, "--model", MODEL, "--input", path, "--output", os.path.join(folder, "out")],
    ]
    for command in commands:
        shown = on_a_terminal(command, stdout=subprocess.DEVNULL)
        assert "\r[" in shown and "%" in shown, (command, shown)
        for flags in ((), ("--progress",) if command[1] != "replay" else ()):
            silent = run(*command, *flags)
            assert "\r" not in silent.err and "%  " not in silent.err.split("policy")[0], silent
    assert "\r" not in on_a_terminal([*commands[2], "--quiet"])


def test_stopped_trace_keeps_what_it_has(folder):
    path = write(folder, "in.txt", "".join(f"{text}\n" for text in TEXTS * 2000))
    output = os.path.join(folder, "trace.csv")
    command = [TOOL, "trace", "--model", MODEL, "--input", path, "--output", output, "--threads", "2"]
    with started(command, stderr=subprocess.PIPE) as process:
        wait_until_blocked(process.pid, signal.SIGINT)
        process.send_signal(signal.SIGINT)
        message = process.stderr.read().decode()
        assert process.wait(TIMEOUT_S) == 1, message
    rows = read(output).decode().splitlines()[1:]
    assert f"holds the first {len(rows)} of {2000 * len(TEXTS)} samples" in message, message
    assert 0 < len(rows) < 2000 * len(TEXTS)
    few = write(folder, "few.txt", "".join(f"{text}\n" for text in (TEXTS * 2000)[: len(rows)]))
    run(TOOL, "trace", "--model", MODEL, "--input", few, "--output", os.path.join(folder, "again.csv"))
    assert read(os.path.join(folder, "again.csv")).decode().splitlines()[1:] == rows


def test_stopped_replay_tells_its_runs(folder):
    path = write(folder, "in.txt", lines(TEXTS))
    trace = os.path.join(folder, "trace.csv")
    run(TOOL, "trace", "--model", MODEL, "--input", path, "--output", trace)
    command = [TOOL, "replay", "--trace", trace, "--policy", "kl-ucb", "--runs", "1000000", "--json"]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_until_blocked(process.pid, signal.SIGINT)
        process.send_signal(signal.SIGINT)
        out, message = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1 and b"stopped by a signal" in message, message
    assert 0 < json.loads(out)["runs"] < 1_000_000


def test_stopped_load_tells_what_it_measured(_):
    with Server() as server:
        command = [TOOL, "load", "--model", MODEL, "--server", server.endpoint, "--rate", "50", "--seconds", "100000",
                   "--warm-up", "0", "--seq", "8-16", "--json"]  # fmt: skip
        with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            wait_until_blocked(process.pid, signal.SIGINT)
            time.sleep(1)  # in the middle of measuring
            process.send_signal(signal.SIGINT)
            out, message = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 1 and b"stopped by a signal" in message, message
        (result,) = json.loads(out)
        assert 0 < result["seconds"] < 100_000


# Words and tables.


def test_unknown_words_are_named(_):
    tool = lambda *flags: run(TOOL, *flags, status=None)  # noqa: E731
    tool("bogus").expect(2, "splitee: no command 'bogus'")
    tool("replya", "--json").expect(2, "no command 'replya'; did you mean replay?")
    tool("trace", "--modle", "x").expect(2, "splitee trace: no flag '--modle'", "did you mean --model?")
    tool("inspect", "a", "b").expect(2, "no argument 'b'")
    edge("--modle", "x", status=None).expect(2, "no flag '--modle'", "--model?")
    run(EDGE, "--modle", "x", status=None).expect(2, "splitee-edge: no flag '--modle'; did you mean --model?")
    run(EDGE, "--polcy=splitee", status=None).expect(2, "'--polcy'; did you mean --policy?")
    run(SERVER, "--modle", "x", status=None).expect(2, "splitee-server: no flag '--modle'", "--model?")
    result = run(SERVER, "--quux", "x", status=None).expect(2, "no flag '--quux'")
    assert "mean" not in result.err, result


def options_with_values():
    for program in (TOOL, EDGE, SERVER):
        told = json.loads(run(program, "--describe").out)
        for command in told["commands"] or [told]:
            words = [program, command["name"]] if told["commands"] else [program]
            yield from ((words, option) for option in command["options"] if option["type"])


def test_odd_values_are_refused(folder):
    """By name, before anything is made: empty ones, another flag in their place, "-" where no stream is,
    lists with a part missing, and numbers that are none or that nothing can be."""
    refused = lambda words, name, *values: run(  # noqa: E731
        *words, name, *values, status=None, cwd=folder).expect(2, name)  # fmt: skip
    numbers = 0
    for words, option in options_with_values():
        name, kind = option["names"][-1], option["type"].split(":")[0]
        refused(words, name, "")
        assert "an empty value" in run(*words, name + "=", "x", status=None, cwd=folder).expect(2, name).err
        assert "stands where" in refused(words, name, "--help").err
        files = kind in ("PREFIX", "DIR") or "FILE" in kind or kind.endswith((".gguf", ".html"))
        if files and "- is standard " not in option["help"]:
            assert "./-" in refused(words, name, "-").err
        if kind in ("X", "N", "K", "R", "S", "MS", "MIB") or "," in kind or kind == "T O":
            numbers += 1
            for value in ("nan", "-nan", "inf", "-1", "1e400", "1 1", "x", "1x", "9" * 40, "0x"):
                values = ("1", value) if kind == "T O" else (value,)
                if (value, kind) != ("9" * 40, "X"):
                    refused(words, name, *values)
        if "," in kind or kind == "R":
            for value in ("1,", ",1", "1,,1", ","):
                assert "missing" in refused(words, name, value).err
    assert numbers > 50 and os.listdir(folder) == []
    run(TOOL, "inspect", "", status=None).expect(2, "an empty argument")
    edge("--server=", "x", status=None).expect(2, "--server", "an empty value")


def test_help_that_cannot_be_written(_):
    for words in ((TOOL, "--help"), (TOOL, "replay", "--help"), (EDGE, "--version"), (SERVER, "--describe")):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, timeout=TIMEOUT_S, check=False)
        assert done.returncode == 1 and b"standard output: cannot write" in done.stderr, (words, done)


def test_tables_are_not_taken_for_texts(folder):
    table = "text\tlabel\nba\t0\nde\t1\n"
    path = write(folder, "in.tsv", table)
    output = write(folder, "out", "old\n")
    for first in ("text\tlabel", "sentence\tlabel", "label\ttext", "id\ttext\ttext2\tlabel", "text,label"):
        for flags, stdin in (((), first + "\nba\t0\n"), (("--input", write(folder, "x.tsv", first + "\nba\t0\n")), "")):
            result = edge(*flags, "--output", output, stdin=stdin, status=None)
            result.expect(1, "line 1", "names columns", "--input-format tsv", "--input-format text")
    assert read(output) in (b"old\n", b"")
    edge("--input", path, "--output", write(folder, "kept", "old\n"), status=None).expect(1)
    assert read(os.path.join(folder, "kept")) == b"old\n"  # a file is looked at before the output is opened
    assert len(records_of("--input-format", "text", stdin=table)) == 3
    assert len(records_of("--input-format", "tsv", stdin=table)) == 2
    for first in ("text", "a text\tlabel", "the label\tof this", "text\t", "ba, de"):
        assert len(records_of(stdin=first + "\nba\n")) == 2, first
    trace = os.path.join(folder, "trace.csv")
    run(TOOL, "trace", "--model", MODEL, "--input", path, "--output", trace, status=None).expect(1, "names columns")


if __name__ == "__main__":
    main(globals())
