"""The faults of a soak, in two lanes that run beside each other: one of servers and links, one of edges.
Each lane draws its faults from the seed, one after the other, so that a seed gives the same two rows of
faults again; how they meet depends on the machine. After a server's or a link's fault every edge that has
this server alone must be answered by it again, before the next one.

Clocks are not moved: the programs read the wall clock for the times in their messages only, and the
steady one cannot be moved under a process that runs; tests/simulation moves it.
"""

import os
import random
import signal
import threading
import time

from proxy import LINK_FAULTS
from tally import Failed

RESUME = "served again"
# Records reach a file within a second, and offloads that were under way their answer within another.
SETTLE_S = 2.5


class Lane(threading.Thread):
    def __init__(self, tally, seed, every_s):
        super().__init__(daemon=True)
        self.tally, self.rng, self.every_s = tally, random.Random(seed), every_s

    def run(self):
        try:
            while not self.tally.stopping.wait(self.rng.uniform(0.2, 1.8) * self.every_s):
                self.one()
        except Failed:
            pass
        except Exception as error:  # noqa: BLE001
            self.tally.problem = self.tally.problem or f"{type(self).__name__}: {error!r}"
            self.tally.stopping.set()

    def hold(self, least_s=0.05, most_s=2.0):
        time.sleep(self.rng.uniform(least_s, most_s))

    def draw(self, functions):
        return self.rng.choices([f for f, _ in functions], [weight for _, weight in functions])[0]


class ServerLane(Lane):
    def __init__(self, tally, seed, every_s, hosts, feeds, models):
        super().__init__(tally, seed, every_s)
        self.hosts, self.feeds, self.models = hosts, feeds, models
        self.mortal = [host for host in hosts if not host.lives]

    def one(self):
        fault = self.draw(((self.killed, 3), (self.stopped, 3), (self.drained, 2), (self.link, 6), (self.half_open, 2),
                           (self.swapped, 1), (self.bad_model, 1), (self.all_killed, 1)))  # fmt: skip
        fault()

    def alone(self, hosts):
        """Edges that send everything, to one of these servers or nowhere."""
        return [feed for feed in self.feeds
                if len(feed.hosts) == 1 and feed.hosts[0] in hosts and "fixed" in feed.kind.policy]  # fmt: skip

    def served_again(self, name, hosts):
        self.tally.fault(name)
        begin = time.monotonic()
        before = {feed: feed.routes["offload"] for feed in self.alone(hosts)}
        for feed, count in before.items():
            self.tally.wait(RESUME, lambda f=feed, n=count: f.routes["offload"] > n,
                            lambda f=feed: f"{f.name} after {name}: {dict(f.routes)}")  # fmt: skip
        self.tally.recovered(name, time.monotonic() - begin)

    def started(self, host):
        host.start(log_full=self.rng.random() < 0.1)
        if host.mute:
            self.tally.fault("server whose log is full")

    def killed(self):
        host = self.rng.choice(self.mortal)
        host.end(signal.SIGKILL, -signal.SIGKILL)
        self.hold()
        self.started(host)
        self.served_again("server killed", [host])

    def all_killed(self):
        for host in self.mortal:
            host.end(signal.SIGKILL, -signal.SIGKILL)
        self.hold(1, 4)
        for host in self.mortal:
            self.started(host)
        self.served_again("servers killed together", self.mortal)

    def stopped(self):
        host = self.rng.choice(self.hosts)
        host.send(signal.SIGSTOP)
        self.hold(0.1, 4)
        host.send(signal.SIGCONT)
        self.served_again("server stopped", [host])

    def drained(self):
        host = self.rng.choice(self.mortal)
        host.end(signal.SIGTERM, 0)
        if not host.mute:
            self.tally.check("a drain is told of", "stopped after" in host.messages(), host.messages()[-2000:])
        self.hold()
        self.started(host)
        self.served_again("server drained", [host])

    def link(self):
        host = self.rng.choice(self.hosts)
        fault = self.rng.choice(LINK_FAULTS)
        host.proxy.tell(fault.format(n=self.rng.randrange(3000)))
        self.hold(0.05, 3)
        host.proxy.tell("pass")
        self.served_again("link " + fault, [host])

    def half_open(self):
        """The edges' connections stay up, and behind them there is nobody any more."""
        host = self.rng.choice(self.mortal)
        host.proxy.tell("stall=1")
        host.end(signal.SIGKILL, -signal.SIGKILL)
        self.hold(0.5, 4)
        self.started(host)
        host.proxy.tell("pass")
        self.served_again("half-open link", [host])

    def with_log(self):
        return self.rng.choice([host for host in self.hosts if not host.mute])

    def swapped(self):
        """Another model: nobody here is answered from it."""
        host = self.with_log()
        host.reload(self.models.other, f"model {self.models.other_hash} from now on")
        for feed in self.alone([host]):
            before = feed.routes["fallback"]
            self.tally.wait("finished at home while the model is another",
                            lambda f=feed, n=before: f.routes["fallback"] > n, lambda f=feed: f.name)  # fmt: skip
        time.sleep(SETTLE_S)
        before = [feed.routes["offload"] for feed in self.alone([host])]
        self.hold()
        after = [feed.routes["offload"] for feed in self.alone([host])]
        self.tally.check("no answer of another model", before == after, f"{host.name}: {before}, {after}")
        host.reload(self.models.good, f"model {self.models.good_hash} from now on")
        self.served_again("model swapped and back", [host])

    def bad_model(self):
        host = self.with_log()
        host.reload(self.models.good[:5000], f"model {self.models.good_hash} stays")
        self.served_again("reload of a bad file", [host])
        host.place(self.models.good)


class EdgeLane(Lane):
    def __init__(self, tally, seed, every_s, feeds):
        super().__init__(tally, seed, every_s)
        self.feeds = feeds
        self.mortal = [feed for feed in feeds if not feed.kind.lives]

    def one(self):
        self.draw(((self.killed, 4), (self.stopped, 3), (self.ended, 2), (self.saving, 2), (self.full_output, 2),
                   (self.full_state, 1)))()  # fmt: skip

    def any_of(self, feeds):
        """One that has answered something since it was started, now this lane's."""
        feed = self.rng.choice(feeds)
        feed.busy.acquire()
        self.answered(feed)
        return feed

    def answered(self, feed):
        before = max(feed.count, feed.base)
        self.tally.wait("records go on", lambda: feed.count > before,
                        lambda: f"{feed.name}: {feed.count} records, {feed.messages()[-2000:]}")  # fmt: skip

    def again(self, name, feed):
        """Started where its records end."""
        feed.log_full = self.rng.random() < 0.1
        if feed.log_full:
            self.tally.fault("edge whose log is full")
        self.tally.fault(name)
        begin = time.monotonic()
        feed.start()
        self.answered(feed)
        self.tally.recovered(name, time.monotonic() - begin)
        feed.busy.release()

    def killed(self):
        feed = self.any_of(self.mortal)
        self.hold(0, 0.05)
        feed.kill()
        feed.end(-signal.SIGKILL)
        self.again("edge killed", feed)

    def stopped(self):
        feed = self.any_of(self.feeds)
        feed.send(signal.SIGSTOP)
        self.hold(0.1, 3)
        feed.send(signal.SIGCONT)
        begin = time.monotonic()
        self.answered(feed)
        self.tally.fault("edge stopped")
        self.tally.recovered("edge stopped", time.monotonic() - begin)
        feed.busy.release()

    def ended(self):
        feed = self.any_of(self.mortal)
        feed.send(signal.SIGTERM)
        feed.end(0)
        self.again("edge ended by SIGTERM", feed)

    def saving(self):
        """Killed where fsync() of a state has not come back: what lay there before is there still."""
        feed = self.any_of([feed for feed in self.mortal if feed.kind.state])
        open(feed.gate, "wb").close()
        self.tally.wait("a save begins", lambda: feed.disk.left_overs(), lambda: feed.name)
        self.hold(0, 0.05)
        feed.kill()
        feed.end(-signal.SIGKILL)
        os.remove(feed.gate)
        self.tally.check("a state is there after a kill", os.path.getsize(feed.state) > 0, feed.name)
        self.again("edge killed while saving", feed)
        self.tally.check("what a kill left is gone", not feed.disk.left_overs(), feed.name)

    def full_output(self):
        """Ends with whole records, and names the first text that has none."""
        feed = self.any_of([feed for feed in self.mortal if feed.kind.file])
        feed.fill_disk()
        feed.end(1)
        words = f" whole record(s) were written, from sample {feed.count - feed.base} on"
        if not feed.mute:
            self.tally.check("a full disk is told of", words in feed.messages(), f"{words}: {feed.messages()[-2000:]}")
        feed.disk.free()
        self.again("disk full under the records", feed)

    def full_state(self):
        """The run goes on, and saves again once it can."""
        feed = self.any_of([feed for feed in self.feeds if feed.kind.state and feed.kind.lives])
        if not feed.disk.mounted:
            feed.busy.release()
            return
        words = "state not saved, will be tried again"
        told = feed.messages().count(words)
        feed.disk.fill()
        self.tally.wait("a state that is not saved is told of", lambda: feed.messages().count(words) > told,
                        lambda: feed.name)  # fmt: skip
        self.answered(feed)
        feed.disk.free()
        begin, saved = time.monotonic(), os.stat(feed.state).st_mtime_ns
        self.tally.wait("a state is saved again", lambda: os.stat(feed.state).st_mtime_ns > saved, lambda: feed.name)
        self.tally.fault("disk full under the state")
        self.tally.recovered("disk full under the state", time.monotonic() - begin)
        feed.busy.release()
