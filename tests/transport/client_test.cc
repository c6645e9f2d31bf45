// The client against scripted servers, over real sockets.
#include "transport/client/client.h"

#include <limits>
#include <set>
#include <string>

#include <doctest/doctest.h>
#include <unistd.h>

#include "base/hash.h"
#include "tests/transport/peers.h"
#include "transport/client/retry_budget.h"

namespace splitee::transport {
namespace {

using namespace testing;

constexpr std::int64_t kShortUs = 60'000;

std::string kind_of(const OffloadOutcome& outcome) {
  return testing::to_string(outcome.kind);
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a request is answered, with its bytes and times") {
  FakeServer server(welcoming(answer_well));
  const auto client = make_client(client_options({server.endpoint()}));
  REQUIRE(client->wait_available(kPatienceUs));
  CHECK(client->last_problem().empty());
  const OffloadOutcome outcome = client->offload(Sample(1).request(), kPatienceUs);
  REQUIRE(kind_of(outcome) == "reply");
  CHECK(outcome.reply.class_index == 2);
  CHECK(outcome.reply.confidence == 0.5f);
  CHECK(outcome.reply.probabilities == std::vector<float>{0.25f, 0.25f, 0.5f});
  CHECK(outcome.bytes_sent == kHeaderBytes + 2 * 8 * 4);
  CHECK(outcome.link_us > 0);
  CHECK(client->counters().bytes_sent == outcome.bytes_sent);
}

TEST_CASE("the request arrives as it was given, in every type") {
  std::vector<float> got;
  Infer shape;
  FakeServer server(welcoming([&](const Message& message) -> std::vector<Raw> {
    shape = std::get<Infer>(message.body);
    if (shape.dtype == Dtype::kInput) {
      if (!check_input(shape).ok()) return {};
      for (const std::byte byte : shape.payload) {
        got.push_back(static_cast<float>(std::to_integer<int>(byte)));
      }
    } else {
      got.resize(std::size_t{shape.rows} * shape.cols);
      if (!read_activation(shape, got).ok()) return {};
    }
    return {reply_to(message)};
  }));
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF16, Dtype::kI8}) {
    ClientOptions options = client_options({server.endpoint()});
    options.activation_dtype = dtype;
    const auto client = make_client(options);
    REQUIRE(client->wait_available(kPatienceUs));
    REQUIRE(kind_of(client->offload(Sample(0.25f, 3).request(), kPatienceUs)) == "reply");
    CHECK(shape.dtype == dtype);
    CHECK(shape.layer == 1);
    CHECK(shape.rows == 3);
    CHECK(shape.cols == 8);
    REQUIRE(got.size() == 24);
    CHECK(got[0] == doctest::Approx(0.25f).epsilon(0.01));
    CHECK(got[23] == 0.5f);
  }
  const auto client = make_client(client_options({server.endpoint()}));
  REQUIRE(client->wait_available(kPatienceUs));
  OffloadRequest request;
  const std::vector<std::byte> bytes = {std::byte{101}, std::byte{7}, std::byte{0}};
  request.input_kind = runtime::InputKind::kNumbers;
  request.input = {5, bytes};
  got.clear();
  REQUIRE(kind_of(client->offload(request, kPatienceUs)) == "reply");
  CHECK(got == std::vector<float>{101, 7, 0});
  CHECK(shape.rows == 5);
  CHECK(shape.cols == 2);
}

TEST_CASE("nothing is sent before the welcome") {
  std::atomic<bool> welcome{false};
  FakeServer server([&](const Message& message) -> std::vector<Raw> {
    if (is_hello(message)) {
      if (!welcome) return {};
      return {welcome_to(message)};
    }
    return answer_well(message);
  });
  const auto client = make_client(client_options({server.endpoint()}));
  CHECK_FALSE(client->wait_available(kShortUs));
  CHECK(kind_of(client->offload(Sample(1).request(), kPatienceUs)) == "unavailable");
  CHECK(server.infers() == 0);
  welcome = true;
  REQUIRE(client->wait_available(kPatienceUs));
  CHECK(kind_of(client->offload(Sample(1).request(), kPatienceUs)) == "reply");
}

TEST_CASE("without a server the answer is immediate") {
  const auto client = make_client(client_options({"tcp://127.0.0.1:1"}));
  for (int i = 0; i < 1'000; ++i) {
    const OffloadOutcome outcome = client->offload(Sample(1).request(), kPatienceUs);
    REQUIRE(kind_of(outcome) == "unavailable");
    CHECK(outcome.bytes_sent == 0);
  }
  CHECK_FALSE(client->wait_available(kShortUs));
  CHECK(contains(client->last_problem(), "tcp://127.0.0.1:1: "));
}

TEST_CASE("a server that falls silent costs one deadline") {
  std::atomic<bool> silent{false};
  FakeServer server([&](const Message& message) -> std::vector<Raw> {
    if (silent) return {};
    return is_hello(message) ? std::vector<Raw>{welcome_to(message)} : answer_well(message);
  });
  const auto client = make_client(client_options({server.endpoint()}));
  REQUIRE(client->wait_available(kPatienceUs));
  REQUIRE(kind_of(client->offload(Sample(1).request(), kPatienceUs)) == "reply");
  silent = true;
  CHECK(kind_of(client->offload(Sample(1).request(), kShortUs)) == "timeout");
  for (int i = 0; i < 100; ++i) {
    CHECK(kind_of(client->offload(Sample(1).request(), kPatienceUs)) == "unavailable");
  }
  CHECK(client->counters().timeouts == 1);
  CHECK(contains(client->last_problem(), "no answer"));
  silent = false;
  REQUIRE(client->wait_available(kPatienceUs));
  CHECK(kind_of(client->offload(Sample(1).request(), kPatienceUs)) == "reply");
}

TEST_CASE("a server that greets but never answers is asked less and less") {
  FakeServer server(welcoming([](const Message&) { return std::vector<Raw>(); }));
  ClientOptions options = client_options({server.endpoint()});
  options.reconnect_min_ms = 1'000;
  options.reconnect_max_ms = 60'000;
  const auto client = make_client(options);
  int timeouts = 0;
  while (client->wait_available(400'000)) {
    REQUIRE(kind_of(client->offload(Sample(1).request(), 20'000)) == "timeout");
    REQUIRE(++timeouts < 10);
  }
  // At once after the first; then a rest of at least half a second, which the wait does not
  // outlast.
  CHECK(timeouts == 2);
  CHECK_FALSE(client->available());
}

TEST_CASE("a late answer is dropped and counted, and the next request gets its own") {
  std::vector<Raw> held;
  FakeServer server(welcoming([&](const Message& message) -> std::vector<Raw> {
    if (held.empty()) {
      held.push_back(reply_to(message));
      return {};
    }
    return {held[0], held[0], reply_to(message)};
  }));
  const auto client = make_client(client_options({server.endpoint()}));
  REQUIRE(client->wait_available(kPatienceUs));
  CHECK(kind_of(client->offload(Sample(1).request(), kShortUs)) == "timeout");
  REQUIRE(client->wait_available(kPatienceUs));
  CHECK(kind_of(client->offload(Sample(1).request(), kPatienceUs)) == "reply");
  CHECK(client->counters().late_answers == 2);
  CHECK(client->counters().replies == 1);
}

TEST_CASE("duplicate and unknown answers are dropped and counted") {
  FakeServer server(welcoming([&](const Message& message) -> std::vector<Raw> {
    const Raw unknown =
        to_raw(encode({message.envelope.request_id + 1'000, kModelHash, 0}, good_reply()));
    return {unknown, reply_to(message), reply_to(message)};
  }));
  const auto client = make_client(client_options({server.endpoint()}));
  REQUIRE(client->wait_available(kPatienceUs));
  for (int i = 0; i < 50; ++i) {
    REQUIRE(kind_of(client->offload(Sample(1).request(), kPatienceUs)) == "reply");
  }
  CHECK(client->counters().replies == 50);
  CHECK(client->counters().unknown_answers == 50);
  CHECK(client->counters().late_answers >= 49);
}

TEST_CASE("another model is named with both hashes, and asked for again") {
  constexpr std::uint64_t kOther = 0x1111222233334444u;
  std::atomic<bool> replaced{false};
  bool welcomes = false;
  SUBCASE("refused by the server") {}
  SUBCASE("welcomed by the server") {
    welcomes = true;
  }
  FakeServer server([&](const Message& message) -> std::vector<Raw> {
    if (!is_hello(message)) return answer_well(message);
    if (replaced) return {welcome_to(message)};
    if (welcomes) return {welcome_to(message, kOther)};
    return {refuse_to(message, RefuseCode::kWrongModel, kOther)};
  });
  const auto client = make_client(client_options({server.endpoint()}));
  CHECK_FALSE(client->wait_available(kShortUs));
  CHECK(contains(client->last_problem(), "wrong model"));
  CHECK(contains(client->last_problem(), hash_to_string(kModelHash)));
  CHECK(contains(client->last_problem(), hash_to_string(kOther)));
  CHECK(server.infers() == 0);
  replaced = true;
  REQUIRE(client->wait_available(kPatienceUs));
  CHECK(client->last_problem().empty());
}

TEST_CASE("a busy server's refusals are outcomes, and it gets a rest") {
  std::atomic<bool> busy{true};
  FakeServer server(welcoming([&](const Message& message) -> std::vector<Raw> {
    if (busy) return {refuse_to(message, RefuseCode::kBusy)};
    return answer_well(message);
  }));
  const auto client = make_client(client_options({server.endpoint()}));
  REQUIRE(client->wait_available(kPatienceUs));
  for (int i = 0; i < 3; ++i) {
    const OffloadOutcome outcome = client->offload(Sample(1).request(), kPatienceUs);
    CHECK(kind_of(outcome) == "refused");
    CHECK(contains(outcome.reason, "busy"));
  }
  CHECK_FALSE(client->available());
  CHECK(client->counters().refused_busy == 3);
  CHECK(client->counters().timeouts == 0);
  busy = false;
  REQUIRE(client->wait_available(kPatienceUs));
  CHECK(kind_of(client->offload(Sample(1).request(), kPatienceUs)) == "reply");
}

TEST_CASE("a refusal for want of a session, or of time before it is up, leads to a new hello") {
  RefuseCode code = RefuseCode::kNoSession;
  SUBCASE("no session") {}
  SUBCASE("expired") {
    code = RefuseCode::kExpired;
  }
  std::atomic<int> refusals{1};
  FakeServer server(welcoming([&](const Message& message) -> std::vector<Raw> {
    if (refusals-- > 0) return {refuse_to(message, code)};
    return answer_well(message);
  }));
  const auto client = make_client(client_options({server.endpoint()}));
  REQUIRE(client->wait_available(kPatienceUs));
  CHECK(kind_of(client->offload(Sample(1).request(), kPatienceUs)) == "refused");
  REQUIRE(client->wait_available(kPatienceUs));
  CHECK(kind_of(client->offload(Sample(1).request(), kPatienceUs)) == "reply");
  CHECK(server.hellos() == 2);
}

TEST_CASE("answers that break the protocol end the link, not the client") {
  struct Case {
    std::string name;
    std::function<Raw(const Message&)> answer;
  };
  const auto changed = [](std::function<void(Reply&)> change) {
    return [change](const Message& message) {
      Reply reply = good_reply();
      change(reply);
      return to_raw(encode(answer_envelope(message), reply));
    };
  };
  const std::vector<Case> cases = {
      {"garbage",
       [](const Message&) {
         return Raw{Bytes(72, std::byte{7}), Bytes(3)};
       }},
      {"empty", [](const Message&) { return Raw{}; }},
      {"an edge's message",
       [](const Message& m) { return to_raw(encode(answer_envelope(m), Hello{})); }},
      {"class out of range", changed([](Reply& r) { r.class_index = 3; })},
      {"too many probabilities", changed([](Reply& r) { r.probabilities.push_back(0.0f); })},
      {"too few probabilities", changed([](Reply& r) {
         r.probabilities = {0.5f, 0.5f};
         r.class_index = 0;
       })},
      {"NaN",
       changed([](Reply& r) { r.probabilities[0] = std::numeric_limits<float>::quiet_NaN(); })},
      {"confidence", changed([](Reply& r) { r.confidence = 0.75f; })},
      {"another model's reply",
       [](const Message& m) { return to_raw(encode(answer_envelope(m, 5), good_reply())); }},
  };
  for (const Case& c : cases) {
    CAPTURE(c.name);
    std::atomic<bool> bad{true};
    FakeServer server(welcoming([&](const Message& message) -> std::vector<Raw> {
      return {bad ? c.answer(message) : reply_to(message)};
    }));
    const auto client = make_client(client_options({server.endpoint()}));
    REQUIRE(client->wait_available(kPatienceUs));
    const OffloadOutcome outcome = client->offload(Sample(1).request(), kPatienceUs);
    CHECK(kind_of(outcome) == "unavailable");
    CHECK_FALSE(outcome.reason.empty());
    bad = false;
    REQUIRE(client->wait_available(kPatienceUs));
    CHECK(kind_of(client->offload(Sample(1).request(), kPatienceUs)) == "reply");
  }
}

TEST_CASE("a message that is too long is not taken") {
  FakeServer server(welcoming([&](const Message&) -> std::vector<Raw> {
    return {Raw{Bytes(72), Bytes(std::size_t{1} << 20)}};
  }));
  const auto client = make_client(client_options({server.endpoint()}));
  REQUIRE(client->wait_available(kPatienceUs));
  const std::string kind = kind_of(client->offload(Sample(1).request(), kShortUs));
  CHECK((kind == "timeout" || kind == "unavailable"));
}

TEST_CASE("a server that comes back on the same port is used again") {
  std::string endpoint = "tcp://127.0.0.1:*";
  std::unique_ptr<Client> client;
  for (int round = 0; round < 3; ++round) {
    FakeServer server(welcoming(answer_well), endpoint);
    endpoint = server.endpoint();
    if (!client) client = make_client(client_options({endpoint}));
    // The first request of a round may find the connection of the last one.
    OffloadOutcome outcome;
    for (int i = 0; i < 10 && outcome.kind != Kind::kReply; ++i) {
      REQUIRE(client->wait_available(kPatienceUs));
      outcome = client->offload(Sample(1).request(), 1'000'000);
    }
    CHECK(kind_of(outcome) == "reply");
  }
}

TEST_CASE("the next server takes over, and the first one takes back") {
  std::atomic<bool> first_answers{true};
  FakeServer first([&](const Message& message) -> std::vector<Raw> {
    if (!first_answers) return {};
    return is_hello(message) ? std::vector<Raw>{welcome_to(message)} : answer_well(message);
  });
  FakeServer second(welcoming(answer_well));
  const auto client = make_client(client_options({first.endpoint(), second.endpoint()}));
  const auto wait_for = [&](FakeServer& server) {
    const int before = server.infers();
    const std::int64_t until_us = now_us() + kPatienceUs;
    while (server.infers() == before && now_us() < until_us) {
      REQUIRE(client->wait_available(kPatienceUs));
      client->offload(Sample(1).request(), kShortUs);
    }
    return server.infers() > before;
  };
  CHECK(wait_for(first));
  CHECK(wait_for(first));
  first_answers = false;
  client->offload(Sample(1).request(), kShortUs);
  CHECK(client->counters().timeouts == 1);
  REQUIRE(client->wait_available(kPatienceUs));
  CHECK(kind_of(client->offload(Sample(1).request(), kPatienceUs)) == "reply");
  CHECK(second.infers() > 0);
  first_answers = true;
  CHECK(wait_for(first));
}

TEST_CASE("submitted requests are in flight together, each with one outcome") {
  std::vector<Raw> held;
  std::atomic<bool> may_answer{false};
  FakeServer server(welcoming([&](const Message& message) -> std::vector<Raw> {
    held.push_back(reply_to(message));
    if (held.size() < 3) return {};
    may_answer.wait(false);
    return {held[2], held[0], held[1]};
  }));
  ClientOptions options = client_options({server.endpoint()});
  options.window = 3;
  const auto client = make_client(options);
  REQUIRE(client->wait_available(kPatienceUs));
  std::vector<RequestId> request_ids;
  for (int i = 0; i < 3; ++i) {
    CHECK(client->available());
    request_ids.push_back(client->submit(Sample(1).request(), kPatienceUs));
  }
  CHECK_FALSE(client->available());
  request_ids.push_back(client->submit(Sample(1).request(), kPatienceUs));  // beyond the window
  may_answer = true;
  may_answer.notify_all();
  std::set<RequestId> seen;
  while (const auto completion = client->poll(kPatienceUs)) {
    CHECK(seen.insert(completion->request_id).second);
    const bool is_extra = completion->request_id == request_ids.back();
    CHECK(kind_of(completion->outcome) == (is_extra ? "unavailable" : "reply"));
    if (!is_extra) CHECK(completion->outcome.reply.request_id == completion->request_id);
  }
  CHECK(seen == std::set<RequestId>(request_ids.begin(), request_ids.end()));
  CHECK(client->available());
}

TEST_CASE("every submitted request has one outcome when the server vanishes") {
  auto server =
      std::make_unique<FakeServer>(welcoming([](const Message&) { return std::vector<Raw>(); }));
  ClientOptions options = client_options({server->endpoint()});
  options.window = 4;
  const auto client = make_client(options);
  REQUIRE(client->wait_available(kPatienceUs));
  std::set<RequestId> open;
  for (int i = 0; i < 4; ++i) open.insert(client->submit(Sample(1).request(), 50'000 + 1'000 * i));
  server.reset();
  while (const auto completion = client->poll(kPatienceUs)) {
    CHECK(open.erase(completion->request_id) == 1);
    CHECK(kind_of(completion->outcome) != "reply");
  }
  CHECK(open.empty());
}

TEST_CASE("a request in flight ends when its server goes, not at its deadline") {
  auto server =
      std::make_unique<FakeServer>(welcoming([](const Message&) { return std::vector<Raw>(); }));
  const auto client = make_client(client_options({server->endpoint()}));
  REQUIRE(client->wait_available(kPatienceUs));
  const RequestId request_id = client->submit(Sample(1).request(), 3'600'000'000);
  while (server->infers() == 0) CHECK(!client->poll(1'000));
  server.reset();
  const auto completion = client->poll(kPatienceUs);
  REQUIRE(completion);
  CHECK(completion->request_id == request_id);
  CHECK(kind_of(completion->outcome) == "unavailable");
  CHECK(contains(client->last_problem(), "connection lost"));
}

TEST_CASE("a request that is refused as busy or lost is sent once more, to another server") {
  RefuseCode code = RefuseCode::kBusy;
  bool helps = true;
  SUBCASE("busy") {}
  SUBCASE("shutting down") {
    code = RefuseCode::kShuttingDown;
  }
  SUBCASE("a bad request is bad elsewhere too") {
    code = RefuseCode::kBadRequest;
    helps = false;
  }
  FakeServer first(welcoming(
      [&](const Message& message) -> std::vector<Raw> { return {refuse_to(message, code)}; }));
  FakeServer second(welcoming(answer_well));
  const auto client = make_client(client_options({first.endpoint(), second.endpoint()}));
  while (first.hellos() == 0 || second.hellos() == 0) client->wait_available(1'000);
  const std::int64_t until_us = now_us() + kPatienceUs;
  OffloadOutcome outcome;
  // The second server's welcome may still be on its way.
  std::optional<RequestId> request_id;
  while (!request_id && now_us() < until_us) {
    REQUIRE(client->wait_available(kPatienceUs));
    outcome = client->offload(Sample(1).request(), kPatienceUs);
    if (kind_of(outcome) == "reply") continue;  // the first one rests
    REQUIRE(kind_of(outcome) == "refused");
    CHECK(outcome.retryable == helps);
    request_id = client->retry(Sample(1).request(), outcome, kPatienceUs);
    if (!helps) break;
  }
  REQUIRE(request_id.has_value() == helps);
  if (!helps) return;
  const auto completion = client->poll(kPatienceUs);
  REQUIRE(completion);
  CHECK(completion->request_id == *request_id);
  CHECK(kind_of(completion->outcome) == "reply");
  CHECK(completion->outcome.server == 1);
  CHECK(client->counters().retries == 1);
  // No time left, or nothing that another server could do better.
  CHECK_FALSE(client->retry(Sample(1).request(), outcome, 0));
  CHECK_FALSE(client->retry(Sample(1).request(), completion->outcome, kPatienceUs));
}

TEST_CASE("the only server is not asked twice") {
  FakeServer server(welcoming([](const Message& message) -> std::vector<Raw> {
    return {refuse_to(message, RefuseCode::kBusy)};
  }));
  const auto client = make_client(client_options({server.endpoint()}));
  REQUIRE(client->wait_available(kPatienceUs));
  const OffloadOutcome outcome = client->offload(Sample(1).request(), kPatienceUs);
  CHECK(outcome.retryable);
  CHECK_FALSE(client->retry(Sample(1).request(), outcome, kPatienceUs));
  CHECK(server.infers() == 1);
}

TEST_CASE("retries are a share of the requests") {
  RetryBudget budget(0.1);
  int retries = 0;
  for (int i = 0; i < 1'000; ++i) {
    budget.add_request();
    retries += budget.take() ? 1 : 0;
  }
  CHECK(retries >= 100);
  CHECK(retries <= 102);
  RetryBudget saved(0.5);
  for (int i = 0; i < 1'000; ++i) saved.add_request();
  for (retries = 0; saved.take();) ++retries;
  CHECK(retries == 10);
  RetryBudget none(0.0);
  none.add_request();
  CHECK_FALSE(none.take());
}

TEST_CASE("one request may differ in type, if the server speaks it") {
  std::atomic<std::uint32_t> spoken{kAllCapabilities};
  FakeServer server([&](const Message& message) -> std::vector<Raw> {
    if (!is_hello(message)) return answer_well(message);
    return {to_raw(encode(answer_envelope(message), Welcome{spoken, 16, 4, 1, 3, 4}))};
  });
  OffloadRequest request;
  Sample sample(0.25f);
  for (const bool speaks : {true, false}) {
    if (!speaks) spoken = kAllCapabilities & ~capability(Dtype::kF16);
    const auto client = make_client(client_options({server.endpoint()}));
    REQUIRE(client->wait_available(kPatienceUs));
    request = sample.request();
    request.activation_dtype = Dtype::kF16;
    const OffloadOutcome outcome = client->offload(request, kPatienceUs);
    REQUIRE(kind_of(outcome) == "reply");
    CHECK(outcome.dtype == (speaks ? Dtype::kF16 : Dtype::kF32));
    CHECK(outcome.bytes_sent == kHeaderBytes + 2 * 8 * (speaks ? 2 : 4));
  }
}

TEST_CASE("a silent link is asked for a sign of life, which measures it") {
  std::atomic<bool> answers{true};
  std::atomic<int> pings{0};
  FakeServer server([&](const Message& message) -> std::vector<Raw> {
    if (is_hello(message)) return {welcome_to(message)};
    if (!std::holds_alternative<Ping>(message.body)) return answer_well(message);
    ++pings;
    if (!answers) return {};
    return {to_raw(encode(answer_envelope(message, 0), Pong{}))};
  });
  ClientOptions options = client_options({server.endpoint()});
  options.ping_ms = 10;
  const auto client = make_client(options);
  REQUIRE(client->wait_available(kPatienceUs));
  const auto hello = client->take_probe();
  REQUIRE(hello);
  CHECK(hello->rtt_us > 0);
  CHECK_FALSE(client->take_probe());
  const std::int64_t until_us = now_us() + kPatienceUs;
  std::optional<LinkProbe> probe;
  while (!(probe = client->take_probe()) && now_us() < until_us) client->wait({}, 1'000);
  REQUIRE(probe);
  CHECK(probe->sent_us > hello->sent_us);
  CHECK(probe->bytes == kHeaderBytes);
  // Without an answer the server is greeted again; this one answers that.
  answers = false;
  const int hellos = server.hellos();
  while (server.hellos() == hellos && now_us() < until_us) client->wait({}, 1'000);
  CHECK(server.hellos() > hellos);
  CHECK(pings >= 2);
}

TEST_CASE("a wait ends by an answer or by a descriptor") {
  std::atomic<bool> may_answer{false};
  FakeServer server(welcoming([&](const Message& message) {
    may_answer.wait(false);
    return answer_well(message);
  }));
  const auto client = make_client(client_options({server.endpoint()}));
  REQUIRE(client->wait_available(kPatienceUs));
  int pipe_ends[2];
  REQUIRE(pipe(pipe_ends) == 0);
  const RequestId request_id = client->submit(Sample(1).request(), kPatienceUs);
  REQUIRE(write(pipe_ends[1], "x", 1) == 1);
  const int fds[] = {pipe_ends[0]};
  const std::int64_t begin_us = now_us();
  client->wait(fds, kPatienceUs);
  CHECK_FALSE(client->poll(0));
  char byte = 0;
  REQUIRE(read(pipe_ends[0], &byte, 1) == 1);
  may_answer = true;
  may_answer.notify_all();
  client->wait(fds, kPatienceUs);
  const auto completion = client->poll(0);
  REQUIRE(completion);
  CHECK(completion->request_id == request_id);
  CHECK(now_us() - begin_us < kPatienceUs);
  close(pipe_ends[0]);
  close(pipe_ends[1]);
}

TEST_CASE("requests that cannot be encoded are refused without being sent") {
  FakeServer server(welcoming(answer_well));
  const auto client = make_client(client_options({server.endpoint()}));
  REQUIRE(client->wait_available(kPatienceUs));
  const OffloadOutcome outcome =
      client->offload(Sample(std::numeric_limits<float>::quiet_NaN()).request(), kPatienceUs);
  CHECK(kind_of(outcome) == "refused");
  CHECK(contains(outcome.reason, "finite"));
  CHECK(outcome.bytes_sent == 0);
  CHECK(kind_of(client->offload(Sample(1).request(), 0)) == "timeout");
  CHECK(kind_of(client->offload(Sample(1).request(), -5)) == "timeout");
  CHECK(kind_of(client->offload(Sample(1).request(), kPatienceUs)) == "reply");
  CHECK(server.infers() == 1);
}

TEST_CASE("malformed options are named") {
  const auto problem = [](const ClientOptions& options) {
    const auto client = Client::create(options);
    return client.ok() ? std::string("none") : client.status().message();
  };
  CHECK(contains(problem(client_options({})), "endpoint"));
  CHECK(contains(problem(client_options({"nonsense"})), "nonsense"));
  CHECK(contains(problem(client_options({"tcp://"})), "tcp://"));
  CHECK(contains(problem(client_options({"xyz://127.0.0.1:5"})), "xyz"));
  ClientOptions options = client_options({"tcp://127.0.0.1:5"});
  CHECK(problem(options) == "none");
  options.curve = CurveClientKeys{"short", "short", "short"};
  CHECK(contains(problem(options), "public key"));
  options = client_options({"tcp://127.0.0.1:5"});
  options.activation_dtype = Dtype::kInput;
  CHECK(contains(problem(options), "activation"));
}

}  // namespace splitee::transport
