// The server's decisions, without sockets, threads or clocks.
#include "transport/server/server_core.h"

#include <array>
#include <deque>
#include <map>
#include <string>

#include <doctest/doctest.h>

#include "base/hash.h"
#include "tests/transport/allocation_failure.h"
#include "tests/transport/server_peers.h"

namespace splitee::transport {

using namespace testing;

namespace {

constexpr std::uint64_t kOtherHash = 77;

ModelShape other_shape() {
  ModelShape shape = kShape;
  shape.model_hash = kOtherHash;
  return shape;
}

std::shared_ptr<ServedModel> served(const ModelShape& shape = kShape) {
  return std::make_shared<ServedModel>(shape, fake_backend(), 1);
}

// A core with peers that are mere names.
class CoreBench {
 public:
  explicit CoreBench(const ServerOptions& options = {}, const std::vector<std::string>& keys = {})
      : counters(keys), queue(limits_of(options)), core(served(), options, queue, counters) {}

  // What comes back at once.
  std::optional<Message> send(const std::string& peer, const Frames& frames,
                              const std::string& user = "") {
    const auto raw = std::make_shared<Raw>(to_raw(frames));
    const View views[] = {raw->header, raw->payload};
    return parse(core.receive({peer, user, views, raw}, now_us, dropped));
  }
  bool greet(const std::string& peer, std::uint64_t hash = kModelHash,
             const std::string& user = "") {
    const auto message = send(
        peer,
        encode(envelope(hash), Hello{kProtocolVersion, kProtocolVersion, kAllCapabilities, 16}),
        user);
    return message && std::holds_alternative<Welcome>(message->body);
  }
  std::optional<Message> infer(const std::string& peer, float value = 0.5f,
                               std::uint64_t deadline_us = 5'000'000, const std::string& user = "",
                               std::uint64_t hash = kModelHash) {
    return send(peer, infer_frames(envelope(hash), 1, 2, 8, value, deadline_us), user);
  }
  // Runs the next batch in `service_us`; the messages that go out for it.
  std::vector<Message> run(std::int64_t service_us = 0) {
    const std::vector<Job> jobs = queue.take(now_us);
    Executed executed = execute(jobs, *jobs.front().model->backends[0], scratch, now_us);
    now_us += service_us;
    std::uint64_t work = 0;
    for (const Job& job : jobs) work += job.work;
    queue.finished(work, executed.run_work, service_us);
    std::vector<Message> messages;
    for (Answer& answer : executed.answers) {
      answer.service_us = service_us;
      if (auto message = parse(core.complete(answer, now_us))) messages.push_back(*message);
    }
    return messages;
  }
  std::uint64_t sheds(Shed reason) const {
    return counters.sheds[static_cast<std::size_t>(reason)];
  }

  std::int64_t now_us = 1'000;
  std::vector<Answer> dropped;
  ServerCounters counters;
  JobQueue queue;
  ServerCore core;

 private:
  static SchedulerLimits limits_of(const ServerOptions& options) {
    SchedulerLimits limits;
    limits.max_jobs = options.max_queue;
    limits.max_batch = options.max_batch;
    return limits;
  }
  Envelope envelope(std::uint64_t hash) {
    return {++id_, hash, static_cast<std::uint64_t>(now_us)};
  }
  std::optional<Message> parse(std::optional<Frames> frames) {
    if (!frames) return std::nullopt;
    raw_.push_back(to_raw(*frames));
    auto message = decode_raw(raw_.back());
    REQUIRE(message.ok());
    return *message;
  }
  Scratch scratch;
  std::uint64_t id_ = 0;
  std::deque<Raw> raw_;  // what messages view
};

std::string refusal_of(const std::optional<Message>& message) {
  if (!message) return "nothing";
  const auto* refusal = std::get_if<Refusal>(&message->body);
  return refusal != nullptr ? std::string(to_string(refusal->code)) : "no refusal";
}

}  // namespace

TEST_CASE("after a change of model, no answer mixes the two") {
  CoreBench bench;
  REQUIRE(bench.greet("old"));
  CHECK_FALSE(bench.infer("old", 7));
  bench.core.set_model(served(other_shape()));
  CHECK(bench.counters.model_hash == kOtherHash);
  // Refused from now on, with both hashes, but what was accepted is answered, in the old one's
  // name.
  const auto refused = bench.infer("old");
  CHECK(refusal_of(refused) == "wrong model");
  CHECK(refused->envelope.model_hash == kOtherHash);
  CHECK(contains(std::get<Refusal>(refused->body).text, hash_to_string(kModelHash)));
  CHECK(contains(std::get<Refusal>(refused->body).text, hash_to_string(kOtherHash)));
  CHECK_FALSE(bench.greet("old"));
  REQUIRE(bench.greet("new", kOtherHash));
  CHECK_FALSE(bench.infer("new", 9, 5'000'000, "", kOtherHash));
  const auto first = bench.run(), second = bench.run();
  REQUIRE(first.size() == 1);
  REQUIRE(second.size() == 1);
  CHECK(first[0].envelope.model_hash == kModelHash);
  CHECK(std::get<Reply>(first[0].body).probabilities == expected_probabilities(7));
  CHECK(second[0].envelope.model_hash == kOtherHash);
  CHECK(std::get<Reply>(second[0].body).probabilities == expected_probabilities(9));
  CHECK(bench.counters.refused_by_code[3] == 2);
  // An edge that has loaded the new file goes on in the same session.
  CHECK(bench.greet("old", kOtherHash));
}

TEST_CASE("a batch keeps every answer with its question, and a bad one to itself") {
  ServerOptions options;
  options.max_batch = 8;
  CoreBench bench(options);
  REQUIRE(bench.greet("a"));
  REQUIRE(bench.greet("b"));
  const std::vector<float> values = {1, -1, 3, 4, -1, 6};
  for (std::size_t i = 0; i < values.size(); ++i) {
    CHECK_FALSE(bench.infer(i % 2 == 0 ? "a" : "b", values[i]));
  }
  const auto messages = bench.run();
  REQUIRE(messages.size() == values.size());
  std::map<std::uint64_t, float> value_of;  // ids count on from the two greetings
  for (std::size_t i = 0; i < values.size(); ++i) value_of[3 + i] = values[i];
  for (const Message& message : messages) {
    const float value = value_of.at(message.envelope.request_id);
    CAPTURE(value);
    if (value < 0) {
      CHECK(refusal_of(message) == "bad request");
    } else {
      CHECK(std::get<Reply>(message.body).probabilities == expected_probabilities(value));
    }
  }
}

TEST_CASE("every request that is not run is counted with its reason") {
  ServerOptions options;
  options.max_queue = 2;
  options.max_batch = 1;
  options.max_window = 4;
  CoreBench bench(options, {"key a", "key b"});
  REQUIRE(bench.greet("a", kModelHash, "key a"));
  REQUIRE(bench.greet("b", kModelHash, "key b"));
  const auto infer = [&](const std::string& name, std::uint64_t deadline_us = 5'000'000) {
    return refusal_of(bench.infer(name, 1, deadline_us, "key " + name));
  };
  CHECK(infer("a") == "nothing");
  bench.run(1'000);
  CHECK(infer("a") == "nothing");
  CHECK(infer("a", 1'200) == "busy");
  CHECK(bench.sheds(Shed::kWouldBeLate) == 1);
  CHECK(infer("a") == "nothing");
  CHECK(infer("a") == "busy");
  CHECK(bench.sheds(Shed::kQueueFull) == 1);
  CHECK(infer("b") == "nothing");
  REQUIRE(bench.dropped.size() == 1);
  CHECK(refusal_of(CoreBench().infer("x")) == "no session");
  REQUIRE(bench.core.complete(bench.dropped[0], bench.now_us));
  CHECK(bench.sheds(Shed::kMadeRoom) == 1);
  bench.now_us += 6'000'000;
  CHECK(refusal_of(bench.run().at(0)) == "expired");
  CHECK(refusal_of(bench.run().at(0)) == "expired");
  CHECK(bench.sheds(Shed::kLateInQueue) == 2);
  for (int i = 0; i < 2; ++i) CHECK(infer("a", 3'600'000'000) == "nothing");
  bench.core.shut_down();
  CHECK(infer("b") == "shutting down");
  CHECK(bench.sheds(Shed::kShuttingDown) == 1);
  const EdgeCounters* a = bench.counters.edges.find("key a");
  CHECK(a->requests == 7);
  CHECK(a->replies == 1);
  CHECK(a->sheds == 4);
  CHECK(bench.counters.edges.find("nobody")->key == "other");
  CHECK(bench.core.outstanding() == 2);
}

TEST_CASE("one edge's window is its own") {
  ServerOptions options;
  options.max_window = 2;
  CoreBench bench(options);
  REQUIRE(bench.greet("a"));
  REQUIRE(bench.greet("b"));
  for (int i = 0; i < 2; ++i) CHECK_FALSE(bench.infer("a"));
  CHECK(refusal_of(bench.infer("a")) == "busy");
  CHECK(bench.sheds(Shed::kWindow) == 1);
  CHECK_FALSE(bench.infer("b"));
}

TEST_CASE("a damaged payload is found by whoever reads it") {
  CoreBench bench;
  REQUIRE(bench.greet("a"));
  Frames frames = infer_frames({50, kModelHash, 0});
  frames.payload.bytes()[5] ^= std::byte{1};
  CHECK_FALSE(bench.send("a", frames));
  const auto messages = bench.run();
  REQUIRE(messages.size() == 1);
  CHECK(refusal_of(messages[0]) == "bad request");
  CHECK(std::get<Refusal>(messages[0].body).text == "checksum");
  CHECK(bench.counters.bad_frames == 1);
}

TEST_CASE("times are counted where they belong") {
  CoreBench bench;
  REQUIRE(bench.greet("a"));
  CHECK_FALSE(bench.infer("a"));
  bench.now_us += 3'000;
  bench.run(200);
  CHECK(bench.counters.queue_us.sum() == 3'000);
  CHECK(bench.counters.service_us.sum() == 200);
  CHECK(bench.counters.total_us.sum() == 3'200);
  CHECK(bench.counters.service_us.bucket(1) == 1);  // up to 250 us
}

TEST_CASE("a model that cannot be run is the server's fault, values that do not fit the edge's") {
  struct Failing : Backend {
    explicit Failing(Code failure) : code(failure) {}
    Result<std::vector<float>> run(const BackendRequest&) override {
      return Status{code, "/secret/model.gguf: block 3 has changed"};
    }
    Code code;
  };
  for (const Code code : {Code::kInvalidArgument, Code::kCorrupt, Code::kIo, Code::kUnsupported}) {
    CoreBench bench;
    bench.core.set_model(std::make_shared<ServedModel>(
        kShape, [code] { return std::make_unique<Failing>(code); }, 1));
    REQUIRE(bench.greet("edge"));
    CHECK_FALSE(bench.infer("edge"));
    const std::vector<Job> jobs = bench.queue.take(bench.now_us);
    Scratch scratch;
    const Executed executed = execute(jobs, *jobs.front().model->backends[0], scratch, 1'000);
    const std::optional<Frames> frames = bench.core.complete(executed.answers.front(), 2'000);
    REQUIRE(frames);
    const auto message = decode_raw(to_raw(*frames));
    const Refusal& refusal = std::get<Refusal>(message->body);
    const bool own = code != Code::kInvalidArgument;
    CHECK(refusal.code == (own ? RefuseCode::kInternal : RefuseCode::kBadRequest));
    CHECK_FALSE(contains(refusal.text, "secret"));
    CHECK(bench.counters.bad_frames == (own ? 0 : 1));
    CHECK(bench.counters.refused_by_code[static_cast<std::size_t>(refusal.code)] == 1);
    // For the operator.
    CHECK(executed.fault == (own ? "/secret/model.gguf: block 3 has changed" : ""));
  }
}

namespace {

// Requests of two edges that fill a queue of two, with an allocation that fails on the way. Whether
// it came to that.
bool run_short_of_memory(std::size_t number, std::size_t also) {
  ServerOptions options;
  options.max_queue = 2;
  CoreBench bench(options);
  REQUIRE(bench.greet("a"));
  REQUIRE(bench.greet("b"));
  std::vector<std::shared_ptr<Raw>> requests;
  std::vector<std::array<View, 2>> views;
  for (std::uint64_t id = 10; id < 16; ++id) {
    const std::uint64_t deadline_us = id == 11 ? 10 : 5'000'000;  // one expires in the queue
    requests.push_back(std::make_shared<Raw>(to_raw(infer_frames(
        {id, kModelHash, static_cast<std::uint64_t>(bench.now_us)}, 1, 2, 8, 7, deadline_us))));
    views.push_back({View(requests.back()->header), View(requests.back()->payload)});
  }
  std::vector<Job> jobs;
  std::vector<Answer> answers;
  Scratch scratch;
  const auto attempt = [](auto body) {
    try {
      body();
    } catch (const std::bad_alloc&) {
    }
  };
  const auto complete_all = [&](std::vector<Answer>& all) {
    for (const Answer& answer : all)
      attempt([&] { (void)bench.core.complete(answer, bench.now_us); });
    all.clear();
  };
  fail_allocation(number, also);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    attempt([&] {
      const std::string_view peer = i < 3 ? "a" : "b";
      (void)bench.core.receive({peer, "", views[i], requests[i]}, bench.now_us, bench.dropped);
    });
    bench.now_us += 20;
    complete_all(bench.dropped);
  }
  // As a worker does: until there is memory again.
  while (bench.queue.size() > 0) {
    attempt([&] { jobs = bench.queue.take(bench.now_us); });
    while (!jobs.empty()) {
      attempt([&] {
        answers = execute(jobs, *jobs.front().model->backends[0], scratch, bench.now_us).answers;
        std::uint64_t work = 0;
        for (const Job& job : jobs) work += job.work;
        bench.queue.finished(work, work, 1);
        jobs.clear();
      });
    }
    complete_all(answers);
  }
  const bool failed = allocation_failed();
  fail_allocation(0);
  CHECK(bench.core.outstanding() == 0);
  CHECK(bench.counters.in_flight == 0);
  CHECK(bench.queue.bytes() == 0);
  // Nothing is left behind: both have their whole windows.
  for (const std::string peer : {"a", "b"}) {
    for (std::uint64_t id = 100; id < 102; ++id) {
      CHECK_FALSE(bench.send(peer, infer_frames({id, kModelHash, 1'000}, 1, 2, 8, 7)));
    }
    std::size_t replies = 0;
    while (bench.queue.size() > 0) replies += bench.run().size();
    CHECK(replies == 2);
  }
  return failed;
}

}  // namespace

TEST_CASE("an allocation that fails costs a request, whichever it is") {
  for (const std::size_t also : {0, 1, 3, 20}) {
    std::size_t number = 1;
    while (run_short_of_memory(number, also)) ++number;
    CHECK(number > 20);
  }
}

}  // namespace splitee::transport
