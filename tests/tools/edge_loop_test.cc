// Several samples in progress: what overlaps, in which order records come and the policy learns,
// and what happens to offloads that fail. The servers are scripted, the sockets and the model are
// real.
#include "tools/edge/edge_loop.h"

#include <cmath>
#include <map>
#include <mutex>
#include <set>
#include <string>

#include <doctest/doctest.h>

#include "tests/runtime/any_network.h"
#include "tests/transport/peers.h"

namespace splitee::tools {
namespace {

using namespace transport::testing;
using policy::kOffloadAtOnce;
using policy::Outcome;
using policy::Plan;
using policy::Route;
using transport::Client;
using transport::Infer;
using transport::Message;
using transport::RefuseCode;

// Splits as told, offloads everything, and remembers what it was asked and shown.
class ScriptedPolicy final : public policy::Policy {
 public:
  std::vector<std::size_t> arms;  // of the samples; the last one for all further
  std::vector<std::string> calls;
  std::map<std::uint64_t, int> seen;  // by ticket
  std::vector<policy::CostModel> costs;

  Plan plan(policy::LinkState link) override {
    calls.push_back("plan " + std::to_string(plans_));
    const std::size_t arm = arms[std::min<std::size_t>(plans_, arms.size() - 1)];
    return {.arm = arm, .ticket = ++plans_, .link = link};
  }
  policy::Action decide(const Plan& plan, std::size_t arm, const policy::ExitReading&) override {
    if (arm == 3) return policy::Action::kExit;
    return plan.link == policy::LinkState::kUp ? policy::Action::kOffload
                                               : policy::Action::kContinue;
  }
  void observe(const Outcome& outcome) override {
    calls.push_back("learn " + std::to_string(outcome.plan.ticket - 1));
    ++seen[outcome.plan.ticket];
    CHECK(outcome.confidence.size() == 4);
  }
  std::uint64_t rejected() const override { return 0; }
  Status set_costs(const policy::CostModel& now) override {
    costs.push_back(now);
    return policy::check_costs(now);
  }
  std::string save_state() const override { return {}; }
  Status load_state(std::string_view) override { return {}; }
  std::string_view name() const override { return "scripted"; }

 private:
  std::uint32_t plans_ = 0;
};

struct Bench {
  std::shared_ptr<const runtime::Network> network = runtime::testing::any_network();
  ScriptedPolicy policy;
  policy::PolicyOptions options;
  EdgeSettings settings;
  std::unique_ptr<Client> client;
  std::unique_ptr<EdgeLoop> loop;

  explicit Bench(std::vector<std::size_t> arms) {
    policy.arms = std::move(arms);
    options.layer_of = {1, 2, 3, 4};
    settings.deadline_us = kPatienceUs;
    settings.notices = false;
  }
  void connect(const std::vector<std::string>& endpoints) {
    transport::ClientOptions own = client_options(endpoints);
    own.model_hash = network->hash();
    own.window = settings.window;
    client = make_client(own);
    REQUIRE(client->wait_available(kPatienceUs));
    loop = std::make_unique<EdgeLoop>(network, policy, options, client.get(), settings);
  }
  void start(std::size_t id) {
    tools::Sample sample;
    sample.id = id;
    sample.input = runtime::testing::any_input(*network, id);
    const Status status = loop->start(sample);
    REQUIRE_MESSAGE(status.ok(), status.message());
  }
  Record take() {
    const Finished* finished = nullptr;
    const std::int64_t until_us = transport::now_us() + kPatienceUs;
    while ((finished = loop->take()) == nullptr && transport::now_us() < until_us) {
      REQUIRE(loop->waiting() > 0);
      REQUIRE(loop->wait({}).ok());
    }
    REQUIRE(finished != nullptr);
    return finished->record;
  }
  FakeServer::Script welcoming_this(FakeServer::Script on_infer) {
    const std::uint64_t hash = network->hash();
    return [hash, on_infer = std::move(on_infer)](const Message& message) -> std::vector<Raw> {
      if (!is_hello(message)) return on_infer(message);
      return {to_raw(encode(answer_envelope(message, hash),
                            transport::Welcome{transport::kAllCapabilities, 24, 4, 1, 3, 16}))};
    };
  }
  Raw reply(const Message& message, std::uint32_t server_us = 1) const {
    return to_raw(encode(answer_envelope(message, network->hash()), good_reply(server_us)));
  }
  Raw refuse(const Message& message, RefuseCode code) const {
    return refuse_to(message, code, network->hash());
  }
  // The answer that the edge alone would give.
  Record alone(std::size_t id) {
    Bench local({3});
    local.settings = settings;
    local.loop = std::make_unique<EdgeLoop>(local.network, local.policy, local.options, nullptr,
                                            local.settings);
    local.start(id);
    return local.take();
  }
};

void check_same_answer(const Record& record, const Record& expected) {
  CHECK(record.class_index == expected.class_index);
  CHECK(record.confidence == expected.confidence);
}

std::string route_of(const Record& record) {
  return std::string(policy::route_name(record.route));
}

}  // namespace

TEST_CASE("as many offloads are under way as the window has, and records keep their order") {
  for (const std::size_t window : {1u, 3u, 8u}) {
    CAPTURE(window);
    Bench bench({1});
    bench.settings.window = window;
    std::mutex mutex;
    std::vector<Raw> held;
    // Answers only once the window is full, the last request first.
    FakeServer server(bench.welcoming_this([&](const Message& message) -> std::vector<Raw> {
      const std::lock_guard lock(mutex);
      held.insert(held.begin(), bench.reply(message));
      if (held.size() < window) return {};
      return std::exchange(held, {});
    }));
    bench.connect({server.endpoint()});
    for (int round = 0; round < 2; ++round) {
      for (std::size_t i = 0; i < window; ++i) {
        CHECK_FALSE(bench.loop->full());
        bench.start(static_cast<std::size_t>(round) * window + i);
      }
      CHECK(bench.loop->full());
      for (std::size_t i = 0; i < window; ++i) {
        const Record record = bench.take();
        CHECK(record.id == static_cast<std::size_t>(round) * window + i);
        CHECK(route_of(record) == "offload");
        CHECK(record.bytes_sent > 0);
        CHECK(record.payload == transport::Dtype::kF32);
      }
    }
    bench.loop->learn_all();
    CHECK(bench.policy.seen.size() == 2 * window);
    for (const auto& [ticket, times] : bench.policy.seen) CHECK(times == 1);
  }
}

TEST_CASE("the policy learns from sample t right before it plans sample t + window") {
  Bench bench({1, 3, 0, 3, kOffloadAtOnce, 3, 3});
  bench.settings.window = 3;
  FakeServer server(bench.welcoming_this(
      [&](const Message& message) { return std::vector<Raw>{bench.reply(message)}; }));
  bench.connect({server.endpoint()});
  for (std::size_t id = 0; id < 7; ++id) {
    bench.start(id);
    // Whether records are taken soon or late makes no difference.
    if (id == 4) {
      for (int i = 0; i < 3; ++i) bench.take();
    } else if (bench.loop->full()) {
      bench.take();
    }
  }
  bench.take();
  bench.take();
  bench.loop->learn_all();
  const std::vector<std::string> expected = {"plan 0",  "plan 1",  "plan 2",  "learn 0", "plan 3",
                                             "learn 1", "plan 4",  "learn 2", "plan 5",  "learn 3",
                                             "plan 6",  "learn 4", "learn 5", "learn 6"};
  CHECK(bench.policy.calls == expected);
}

TEST_CASE("offloads that are refused are finished here, from where they were") {
  Bench bench({1, 2, 0, kOffloadAtOnce});
  bench.settings.window = 4;
  FakeServer server(bench.welcoming_this([&](const Message& message) {
    return std::vector<Raw>{bench.refuse(message, RefuseCode::kBadRequest)};
  }));
  bench.connect({server.endpoint()});
  for (std::size_t id = 0; id < 4; ++id) bench.start(id);
  for (std::size_t id = 0; id < 4; ++id) {
    const Record record = bench.take();
    CHECK(route_of(record) == "fallback");
    check_same_answer(record, bench.alone(id));
  }
}

TEST_CASE("samples in progress are finished here when the server goes") {
  Bench bench({1, 2, 0, kOffloadAtOnce});
  bench.settings.window = 4;
  bench.settings.deadline_us = 3'600'000'000;
  auto server = std::make_unique<FakeServer>(
      bench.welcoming_this([](const Message&) { return std::vector<Raw>(); }));
  bench.connect({server->endpoint()});
  for (std::size_t id = 0; id < 4; ++id) bench.start(id);
  CHECK(bench.loop->waiting() == 4);
  while (server->infers() < 4) std::this_thread::yield();
  server.reset();
  for (std::size_t id = 0; id < 4; ++id) {
    const Record record = bench.take();
    CHECK(route_of(record) == "fallback");
    check_same_answer(record, bench.alone(id));
  }
  bench.loop->learn_all();
  CHECK(bench.policy.seen.size() == 4);
}

TEST_CASE("a busy server's request goes to the next one, once") {
  for (const bool second_answers : {true, false}) {
    Bench bench({1});
    FakeServer first(bench.welcoming_this([&](const Message& message) {
      return std::vector<Raw>{bench.refuse(message, RefuseCode::kBusy)};
    }));
    FakeServer second(bench.welcoming_this([&](const Message& message) {
      return std::vector<Raw>{second_answers ? bench.reply(message)
                                             : bench.refuse(message, RefuseCode::kBusy)};
    }));
    bench.connect({first.endpoint(), second.endpoint()});
    // Until both have welcomed it and one request went to both.
    Record record;
    const std::int64_t until_us = transport::now_us() + kPatienceUs;
    for (std::size_t id = 0; second.infers() == 0 && transport::now_us() < until_us; ++id) {
      REQUIRE(bench.client->wait_available(kPatienceUs));
      bench.start(id);
      record = bench.take();
    }
    if (bench.client->counters().retries == 0) continue;  // the first one was at rest
    CHECK(bench.client->counters().retries == 1);
    CHECK(route_of(record) == (second_answers ? "offload" : "fallback"));
    CHECK(record.bytes_sent % 2 == 0);
    CHECK(bench.client->counters().sent == static_cast<std::uint64_t>(first.infers()) + 1);
  }
}

TEST_CASE("the payload is what was asked for, with the same answer") {
  struct Case {
    Payload payload;
    std::optional<transport::Dtype> activation;
    std::set<transport::Dtype> sent;
  };
  using transport::Dtype;
  const Case cases[] = {{Payload::kActivation, Dtype::kF32, {Dtype::kF32}},
                        {Payload::kActivation, Dtype::kF16, {Dtype::kF16}},
                        {Payload::kActivation, Dtype::kI8, {Dtype::kI8}},
                        {Payload::kInput, Dtype::kF32, {Dtype::kInput}},
                        // Nothing is known of the bandwidth, and the server's layers take most
                        // of the time: both in turn.
                        {Payload::kAuto, Dtype::kF32, {Dtype::kF32, Dtype::kInput}}};
  for (const Case& c : cases) {
    Bench bench({2});
    bench.settings.payload = {c.payload, c.activation};
    std::mutex mutex;
    std::vector<Infer> shapes;
    FakeServer server(bench.welcoming_this([&](const Message& message) {
      const std::lock_guard lock(mutex);
      shapes.push_back(std::get<Infer>(message.body));
      return std::vector<Raw>{bench.reply(message, 10'000'000)};
    }));
    bench.connect({server.endpoint()});
    std::set<Dtype> sent;
    for (std::size_t id = 0; id < 4; ++id) {
      bench.start(id);
      const Record record = bench.take();
      CHECK(route_of(record) == "offload");
      CHECK(record.split == 3);
      REQUIRE(record.payload);
      sent.insert(*record.payload);
      const std::lock_guard lock(mutex);
      const Infer& shape = shapes.back();
      CHECK(shape.dtype == *record.payload);
      // The exit of layer 3 of a text is read before that layer is complete; of others it
      // reads all.
      const bool is_text = bench.network->info().input == runtime::InputKind::kText;
      CHECK(shape.layer == (shape.dtype == Dtype::kInput ? 0u : is_text ? 2u : 3u));
      CHECK(record.bytes_sent == transport::kHeaderBytes + shape.payload.size());
    }
    CHECK(sent == c.sent);
  }
}

TEST_CASE("costs as measured reach the policy and the record") {
  Bench bench({1, 2, 0, kOffloadAtOnce, 3});
  bench.settings.live_costs = true;
  bench.options.at_once_arm = true;
  FakeServer server(bench.welcoming_this(
      [&](const Message& message) { return std::vector<Raw>{bench.reply(message)}; }));
  bench.connect({server.endpoint()});
  for (std::size_t id = 0; id < 20; ++id) {
    bench.start(id);
    const Record record = bench.take();
    CHECK(record.cost > 0);
    CHECK(std::isfinite(record.cost));
  }
  REQUIRE(bench.policy.costs.size() == 20);
  const policy::CostModel& last = bench.policy.costs.back();
  CHECK(last.lambda() == doctest::Approx(bench.options.costs.lambda()));
  CHECK(last.offload_by_layer.size() == 5);
  CHECK(last.offload_from(0) > 0);
  CHECK(bench.loop->meter().costs().link().known());
}

}  // namespace splitee::tools
