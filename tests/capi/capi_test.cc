// The C library through its header alone: what it answers, how it refuses misuse, policies of the
// caller. $SPLITEE_TEST_MODEL: a network on texts with several exits.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "capi/splitee.h"

namespace {

const char* const kTexts[] = {"a warm and funny film", "dull, loud and far too long",
                              "not bad at all", "", "bada bodo gigi"};

template <class T>
T sized() {
  T value{};
  value.struct_size = sizeof value;
  return value;
}

// Ends a handle at the end of a test.
template <class T>
struct Owned {
  T* handle = nullptr;
  ~Owned() { splitee_free(handle); }
  operator T*() const { return handle; }
  T** operator&() { return &handle; }
};

struct Fixture {
  Owned<splitee_model> model;
  splitee_model_info info = sized<splitee_model_info>();
  Fixture() {
    const char* path = std::getenv("SPLITEE_TEST_MODEL");
    REQUIRE(path != nullptr);
    REQUIRE(splitee_model_open(path, nullptr, &model) == SPLITEE_OK);
    REQUIRE(splitee_model_info_get(model, &info) == SPLITEE_OK);
  }

  splitee_payload payload(std::vector<char>& room) const {
    room.resize(info.max_payload_bytes);
    auto made = sized<splitee_payload>();
    made.data = room.data();
    made.capacity = room.size();
    return made;
  }
  // Every exit's numbers, (exits, classes).
  std::vector<float> run_all(splitee_engine* engine, const splitee_payload& from,
                             std::size_t first = 0) const {
    REQUIRE(splitee_engine_begin(engine, &from) == SPLITEE_OK);
    std::vector<float> found(info.exits * info.classes);
    for (std::size_t exit = first; exit < info.exits; ++exit) {
      REQUIRE(splitee_engine_run(engine, exit, &found[exit * info.classes], info.classes) ==
              SPLITEE_OK);
    }
    return found;
  }
};

splitee_input text_input(const char* text) {
  auto input = sized<splitee_input>();
  input.data = text;
  input.bytes = std::strlen(text);
  return input;
}

std::string field(const char* json, const std::string& name) {
  const std::string text = json, key = "\"" + name + "\": ";
  const std::size_t at = text.find(key);
  REQUIRE(at != std::string::npos);
  return text.substr(at + key.size(), text.find_first_of(",}", at) - at - key.size());
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "a model says what it is") {
  CHECK(info.exits > 1);
  CHECK(info.exit_layers[info.exits - 1] == info.layers);
  CHECK(info.input == SPLITEE_TEXT);
  CHECK(info.output == SPLITEE_CLASSES);
  CHECK(std::string(info.labels[0]) != info.labels[1]);
  CHECK(info.columns == nullptr);
}

TEST_CASE("what cannot be opened is named, and no handle comes out") {
  splitee_model* model = nullptr;
  CHECK(splitee_model_open("/nowhere/model.gguf", nullptr, &model) != SPLITEE_OK);
  CHECK(std::strstr(splitee_last_error(), "/nowhere/model.gguf") != nullptr);
  CHECK(model == nullptr);
  CHECK(splitee_model_open(nullptr, nullptr, &model) == SPLITEE_INVALID);
  const char* const options[] = {"target=abacus", nullptr};
  CHECK(splitee_model_open(std::getenv("SPLITEE_TEST_MODEL"), options, &model) == SPLITEE_INVALID);
  CHECK(std::strstr(splitee_last_error(), "abacus") != nullptr);
  const char* const unknown[] = {"colour=blue", nullptr};
  CHECK(splitee_model_open(std::getenv("SPLITEE_TEST_MODEL"), unknown, &model) == SPLITEE_INVALID);
  CHECK(std::strstr(splitee_last_error(), "colour") != nullptr);
  splitee_free(nullptr);
}

TEST_CASE_FIXTURE(Fixture, "an activation goes on in another engine with the same bits") {
  Owned<splitee_engine> edge, server;
  REQUIRE(splitee_engine_create(model, 1, &edge) == SPLITEE_OK);
  REQUIRE(splitee_engine_create(model, 2, &server) == SPLITEE_OK);
  std::vector<char> room, other_room;
  for (const char* text : kTexts) {
    splitee_payload input = payload(room), activation = payload(other_room);
    const splitee_input given = text_input(text);
    REQUIRE(splitee_prepare(model, &given, &input) == SPLITEE_OK);
    const std::vector<float> whole = run_all(edge, input);
    for (std::size_t cut = 0; cut + 1 < info.exits; ++cut) {
      std::vector<float> row(info.classes);
      REQUIRE(splitee_engine_begin(edge, &input) == SPLITEE_OK);
      REQUIRE(splitee_engine_run(edge, cut, row.data(), row.size()) == SPLITEE_OK);
      REQUIRE(splitee_engine_activation(edge, &activation) == SPLITEE_OK);
      CHECK(activation.layer == info.exit_layers[cut]);
      CHECK(activation.bytes == activation.rows * activation.cols * sizeof(float));
      const std::vector<float> rest = run_all(server, activation, cut + 1);
      for (std::size_t i = (cut + 1) * info.classes; i < whole.size(); ++i) {
        REQUIRE(rest[i] == whole[i]);
      }
      // The exit where it was cut says the same there, too.
      REQUIRE(splitee_engine_begin(server, &activation) == SPLITEE_OK);
      std::vector<float> again(info.classes);
      REQUIRE(splitee_engine_run(server, cut, again.data(), again.size()) == SPLITEE_OK);
      CHECK(again == row);
    }
  }
}

TEST_CASE_FIXTURE(Fixture, "calls out of order and sizes that do not fit are refused") {
  Owned<splitee_engine> engine;
  CHECK(splitee_engine_create(model, 0, &engine) == SPLITEE_INVALID);
  REQUIRE(splitee_engine_create(model, 1, &engine) == SPLITEE_OK);
  std::vector<char> room, other_room;
  splitee_payload input = payload(room), activation = payload(other_room);
  std::vector<float> row(info.classes);
  CHECK(splitee_engine_run(engine, 0, row.data(), row.size()) == SPLITEE_INVALID);
  CHECK(splitee_engine_activation(engine, &activation) == SPLITEE_INVALID);

  splitee_input given = text_input(kTexts[0]);
  input.capacity = 3;
  CHECK(splitee_prepare(model, &given, &input) == SPLITEE_TOO_SMALL);
  CHECK(input.bytes > 3);
  input.capacity = input.bytes;
  REQUIRE(splitee_prepare(model, &given, &input) == SPLITEE_OK);
  given.struct_size = 4;
  CHECK(splitee_prepare(model, &given, &input) == SPLITEE_INVALID);

  REQUIRE(splitee_engine_begin(engine, &input) == SPLITEE_OK);
  CHECK(splitee_engine_run(engine, info.exits, row.data(), row.size()) == SPLITEE_INVALID);
  CHECK(splitee_engine_run(engine, 1, row.data(), info.classes - 1) == SPLITEE_INVALID);
  REQUIRE(splitee_engine_run(engine, 1, row.data(), row.size()) == SPLITEE_OK);
  CHECK(splitee_engine_run(engine, 0, row.data(), row.size()) == SPLITEE_INVALID);
  REQUIRE(splitee_engine_activation(engine, &activation) == SPLITEE_OK);

  splitee_payload bad = activation;
  bad.rows += 1;
  CHECK(splitee_engine_begin(engine, &bad) == SPLITEE_INVALID);
  bad = activation;
  bad.layer = info.layers + 1;
  CHECK(splitee_engine_begin(engine, &bad) == SPLITEE_INVALID);
  bad = activation;
  bad.length = info.max_length + 1;
  CHECK(splitee_engine_begin(engine, &bad) == SPLITEE_INVALID);
  static_cast<float*>(activation.data)[0] = NAN;
  CHECK(splitee_engine_begin(engine, &activation) != SPLITEE_OK);
  // After a refused begin there is no sample.
  CHECK(splitee_engine_run(engine, 1, row.data(), row.size()) == SPLITEE_INVALID);
  bad = input;
  bad.bytes -= 1;
  CHECK(splitee_engine_begin(engine, &bad) != SPLITEE_OK);
}

namespace {

// A network of the policy tests: exit i is sure by `confidence[i]`.
struct Numbers {
  std::vector<float> confidence;
  std::vector<std::size_t> looked;
  bool broken = false;
};

int evaluate(void* user, std::size_t exit, float* probabilities, std::size_t count) {
  auto& numbers = *static_cast<Numbers*>(user);
  numbers.looked.push_back(exit);
  if (numbers.broken) return 1;
  std::fill_n(probabilities, count, 0.0F);
  probabilities[0] = numbers.confidence[exit];
  probabilities[1] = 1 - numbers.confidence[exit];
  return 0;
}

int offload(void* user, std::size_t, float* probabilities, std::size_t count) {
  auto& numbers = *static_cast<Numbers*>(user);
  if (numbers.broken) return 1;
  std::fill_n(probabilities, count, 0.0F);
  probabilities[1] = 1;
  return 0;
}

splitee_network_calls calls_of(Numbers& numbers) {
  auto calls = sized<splitee_network_calls>();
  calls.user = &numbers;
  calls.evaluate = evaluate;
  calls.offload = offload;
  return calls;
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "a policy looks at exits, sends, and goes on from its saved state") {
  const char* const options[] = {"policy=splitee", "alpha=0.8", "seed=3", nullptr};
  Owned<splitee_policy> policy, second;
  REQUIRE(splitee_policy_create(model, nullptr, options, nullptr, 0, &policy) == SPLITEE_OK);
  Numbers numbers;
  numbers.confidence.assign(info.exits, 0.9F);
  const splitee_network_calls calls = calls_of(numbers);
  auto outcome = sized<splitee_outcome>();
  for (int i = 0; i < 50; ++i) {
    numbers.confidence[0] = i % 2 == 0 ? 0.6F : 0.95F;
    REQUIRE(splitee_policy_run(policy, SPLITEE_LINK_UP, &calls, &outcome) == SPLITEE_OK);
    if (outcome.route == SPLITEE_ROUTE_EXIT) CHECK(outcome.class_index == 0);
    if (outcome.route == SPLITEE_ROUTE_OFFLOAD) CHECK(outcome.class_index == 1);
    CHECK(outcome.exits == info.exits);
  }
  std::size_t bytes = 0;
  CHECK(splitee_policy_save(policy, nullptr, 0, &bytes) == SPLITEE_TOO_SMALL);
  std::vector<char> state(bytes);
  REQUIRE(splitee_policy_save(policy, state.data(), state.size(), &bytes) == SPLITEE_OK);
  REQUIRE(splitee_policy_create(model, nullptr, options, state.data(), bytes, &second) ==
          SPLITEE_OK);
  for (int i = 0; i < 20; ++i) {
    REQUIRE(splitee_policy_run(policy, SPLITEE_LINK_UP, &calls, &outcome) == SPLITEE_OK);
    const std::vector<std::size_t> first = std::exchange(numbers.looked, {});
    REQUIRE(splitee_policy_run(second, SPLITEE_LINK_UP, &calls, &outcome) == SPLITEE_OK);
    CHECK(std::exchange(numbers.looked, {}).back() == first.back());
  }
  state[state.size() / 2] = static_cast<char>(state[state.size() / 2] ^ 1);
  splitee_policy* third = nullptr;
  CHECK(splitee_policy_create(model, nullptr, options, state.data(), bytes, &third) != SPLITEE_OK);
  CHECK(third == nullptr);

  numbers.broken = true;
  CHECK(splitee_policy_run(policy, SPLITEE_LINK_UP, &calls, &outcome) == SPLITEE_CALLBACK);
  CHECK(splitee_policy_run(policy, 7, &calls, &outcome) == SPLITEE_INVALID);
}

namespace {

// Looks at every second exit; what it is told is kept.
struct Own {
  int first = 0, answer = SPLITEE_ANSWER;
  float sure = 0.8F;
  std::vector<std::uint64_t> planned, observed;
  std::size_t exits = 0;
};

splitee_policy_calls own_calls(Own& own) {
  auto calls = sized<splitee_policy_calls>();
  calls.user = &own;
  calls.plan = [](void* user, std::uint64_t sample, int) {
    static_cast<Own*>(user)->planned.push_back(sample);
    return static_cast<Own*>(user)->first;
  };
  calls.decide = [](void* user, const splitee_reading* reading) {
    auto& me = *static_cast<Own*>(user);
    me.exits = reading->exits;
    return reading->confidence >= me.sure ? me.answer : static_cast<int>(reading->exit) + 1;
  };
  calls.observe = [](void* user, const splitee_outcome* outcome) {
    static_cast<Own*>(user)->observed.push_back(outcome->sample);
  };
  return calls;
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "a caller's policy decides; what makes no sense is refused") {
  Own own;
  const splitee_policy_calls own_policy = own_calls(own);
  Owned<splitee_policy> policy;
  const char* const named[] = {"policy=splitee", nullptr};
  CHECK(splitee_policy_create(model, &own_policy, named, nullptr, 0, &policy) == SPLITEE_INVALID);
  REQUIRE(splitee_policy_create(model, &own_policy, nullptr, nullptr, 0, &policy) == SPLITEE_OK);
  Numbers numbers;
  numbers.confidence.assign(info.exits, 0.6F);
  numbers.confidence[2] = 0.9F;
  const splitee_network_calls calls = calls_of(numbers);
  auto outcome = sized<splitee_outcome>();
  REQUIRE(splitee_policy_run(policy, SPLITEE_LINK_UP, &calls, &outcome) == SPLITEE_OK);
  CHECK(numbers.looked == std::vector<std::size_t>{0, 1, 2});
  CHECK(outcome.route == SPLITEE_ROUTE_EXIT);
  CHECK(outcome.exit == 2);
  CHECK(std::isnan(outcome.confidences[3]));
  CHECK(own.exits == info.exits);

  own.answer = SPLITEE_SEND;
  REQUIRE(splitee_policy_run(policy, SPLITEE_LINK_UP, &calls, &outcome) == SPLITEE_OK);
  CHECK(outcome.route == SPLITEE_ROUTE_OFFLOAD);
  REQUIRE(splitee_policy_run(policy, SPLITEE_LINK_DOWN, &calls, &outcome) == SPLITEE_OK);
  CHECK(outcome.route == SPLITEE_ROUTE_FINAL);
  CHECK(own.planned == std::vector<std::uint64_t>{0, 1, 2});
  CHECK(own.observed == own.planned);

  std::size_t bytes = 0;
  CHECK(splitee_policy_save(policy, nullptr, 0, &bytes) == SPLITEE_UNSUPPORTED);
  own.answer = 1;  // not later than exit 2
  CHECK(splitee_policy_run(policy, SPLITEE_LINK_UP, &calls, &outcome) == SPLITEE_CALLBACK);
  // From then on it is not asked any more.
  REQUIRE(splitee_policy_run(policy, SPLITEE_LINK_UP, &calls, &outcome) == SPLITEE_OK);
  CHECK(outcome.route == SPLITEE_ROUTE_FINAL);
  CHECK(own.planned.size() == 4);
}

TEST_CASE_FIXTURE(Fixture, "an edge classifies, in order, and says what it did") {
  const char* const options[] = {"policy=threshold", "alpha=0.55", "window=2", "exits", nullptr};
  Owned<splitee_edge> edge;
  REQUIRE(splitee_edge_create(model, nullptr, nullptr, options, &edge) == SPLITEE_OK);
  auto record = sized<splitee_record>();
  CHECK(splitee_edge_next(edge, -1, &record) == SPLITEE_NONE);
  splitee_input input = text_input(kTexts[0]);
  input.id = 41;
  input.label = info.labels[1];
  REQUIRE(splitee_classify(edge, &input, &record) == SPLITEE_OK);
  CHECK(record.id == 41);
  CHECK(record.label == info.labels[record.class_index]);
  CHECK(field(record.json, "truth") == "1");
  CHECK(field(record.json, "exit_layer") == std::to_string(record.exit_layer));
  CHECK(std::strchr(record.json, '\n') == nullptr);

  input.label = "no class";
  CHECK(splitee_classify(edge, &input, &record) == SPLITEE_CORRUPT);
  CHECK(std::strstr(splitee_last_error(), "no class") != nullptr);
  input.label = nullptr;
  for (const std::uint64_t id : {1, 2}) {
    input.id = id;
    REQUIRE(splitee_edge_submit(edge, &input) == SPLITEE_OK);
  }
  CHECK(splitee_edge_submit(edge, &input) == SPLITEE_FULL);
  CHECK(splitee_classify(edge, &input, &record) == SPLITEE_INVALID);
  for (const std::uint64_t id : {1, 2}) {
    REQUIRE(splitee_edge_next(edge, 0, &record) == SPLITEE_OK);
    CHECK(record.id == id);
  }
  CHECK(splitee_edge_next(edge, 0, &record) == SPLITEE_NONE);
  std::size_t bytes = 0;
  CHECK(splitee_edge_summary(edge, nullptr, 0, &bytes) == SPLITEE_TOO_SMALL);
  std::vector<char> json(bytes);
  REQUIRE(splitee_edge_summary(edge, json.data(), bytes, &bytes) == SPLITEE_OK);
  CHECK(field(json.data(), "samples") == "3");
}

TEST_CASE_FIXTURE(Fixture, "options that do not fit are named") {
  splitee_edge* edge = nullptr;
  const auto refused = [&](const char* option, const char* word) {
    const char* const options[] = {option, nullptr};
    CHECK(splitee_edge_create(model, nullptr, nullptr, options, &edge) == SPLITEE_INVALID);
    CHECK_MESSAGE(std::strstr(splitee_last_error(), word) != nullptr, splitee_last_error());
  };
  refused("polcy=fixed", "polcy");
  refused("policy=fixed", "split");
  refused("alpha=2", "alpha");
  refused("server=nonsense", "nonsense");
  refused("input=file", "input");
  refused("help", "help");
  CHECK(edge == nullptr);

  Own own;
  const splitee_policy_calls calls = own_calls(own);
  Owned<splitee_policy> policy;
  REQUIRE(splitee_policy_create(model, &calls, nullptr, nullptr, 0, &policy) == SPLITEE_OK);
  const char* const alpha[] = {"alpha=0.5", nullptr};
  CHECK(splitee_edge_create(model, policy, nullptr, alpha, &edge) == SPLITEE_INVALID);
}

TEST_CASE_FIXTURE(Fixture, "a handle outlives what it was made of") {
  Own own;
  const splitee_policy_calls calls = own_calls(own);
  Owned<splitee_edge> edge;
  {
    Owned<splitee_model> other;
    Owned<splitee_policy> policy, of_other;
    REQUIRE(splitee_model_open(std::getenv("SPLITEE_TEST_MODEL"), nullptr, &other) == SPLITEE_OK);
    REQUIRE(splitee_policy_create(other, &calls, nullptr, nullptr, 0, &policy) == SPLITEE_OK);
    splitee_edge* wrong = nullptr;
    CHECK(splitee_edge_create(model, policy, nullptr, nullptr, &wrong) == SPLITEE_INVALID);
    REQUIRE(splitee_edge_create(other, policy, nullptr, nullptr, &edge) == SPLITEE_OK);
  }
  auto record = sized<splitee_record>();
  const splitee_input input = text_input(kTexts[1]);
  REQUIRE(splitee_classify(edge, &input, &record) == SPLITEE_OK);
  CHECK(record.exit_layer >= 1);
}

TEST_CASE_FIXTURE(Fixture, "eight threads on one model have the answers of one") {
  std::vector<std::vector<float>> found(8);
  const auto run = [&](std::size_t thread) {
    Owned<splitee_engine> engine;
    if (splitee_engine_create(model, 1, &engine) != SPLITEE_OK) return;
    std::vector<char> room(info.max_payload_bytes);
    for (int round = 0; round < 5; ++round) {
      for (const char* text : kTexts) {
        auto input = sized<splitee_payload>();
        input.data = room.data();
        input.capacity = room.size();
        const splitee_input given = text_input(text);
        if (splitee_prepare(model, &given, &input) || splitee_engine_begin(engine, &input)) return;
        for (std::size_t exit = 0; exit < info.exits; ++exit) {
          std::vector<float> row(info.classes);
          if (splitee_engine_run(engine, exit, row.data(), row.size())) return;
          found[thread].insert(found[thread].end(), row.begin(), row.end());
        }
      }
    }
  };
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < found.size(); ++i) threads.emplace_back(run, i);
  for (std::thread& thread : threads) thread.join();
  CHECK(found[0].size() == 5 * std::size(kTexts) * info.exits * info.classes);
  for (const std::vector<float>& one : found) CHECK(one == found[0]);
}

TEST_CASE("messages are a thread's own") {
  splitee_model* model = nullptr;
  CHECK(splitee_model_open("/nowhere/one", nullptr, &model) != SPLITEE_OK);
  std::string other;
  std::thread([&] {
    other = splitee_last_error();
    (void)splitee_model_open("/nowhere/two", nullptr, &model);
  }).join();
  CHECK(other.empty());
  CHECK(std::strstr(splitee_last_error(), "one") != nullptr);
}

// $SPLITEE_TEST_IMAGE_MODEL: a network on images; not set where there are none.
TEST_CASE("pictures are samples, as the bytes of their files") {
  const char* path = std::getenv("SPLITEE_TEST_IMAGE_MODEL");
  if (path == nullptr) return;
  Owned<splitee_model> model;
  auto info = sized<splitee_model_info>();
  REQUIRE(splitee_model_open(path, nullptr, &model) == SPLITEE_OK);
  REQUIRE(splitee_model_info_get(model, &info) == SPLITEE_OK);
  CHECK(info.input == SPLITEE_IMAGE);
  std::string file = "P6 20 30 255\n";
  for (int i = 0; i < 20 * 30 * 3; ++i) file += static_cast<char>(i * i / 7);
  auto given = sized<splitee_input>();
  given.data = file.data();
  given.bytes = file.size();

  std::vector<char> room(info.max_payload_bytes);
  auto payload = sized<splitee_payload>();
  payload.data = room.data();
  payload.capacity = room.size();
  Owned<splitee_engine> engine;
  REQUIRE(splitee_engine_create(model, 1, &engine) == SPLITEE_OK);
  REQUIRE(splitee_prepare(model, &given, &payload) == SPLITEE_OK);
  CHECK(payload.bytes == file.size());
  REQUIRE(splitee_engine_begin(engine, &payload) == SPLITEE_OK);
  std::vector<float> last(info.classes);
  REQUIRE(splitee_engine_run(engine, info.exits - 1, last.data(), last.size()) == SPLITEE_OK);

  Owned<splitee_edge> edge;
  const char* const options[] = {"policy=final", nullptr};
  REQUIRE(splitee_edge_create(model, nullptr, nullptr, options, &edge) == SPLITEE_OK);
  auto record = sized<splitee_record>();
  REQUIRE(splitee_classify(edge, &given, &record) == SPLITEE_OK);
  CHECK(record.confidence == *std::max_element(last.begin(), last.end()));
  CHECK(last[record.class_index] == record.confidence);

  // Broken ones are errors that change nothing.
  given.bytes = file.size() - 1;
  CHECK(splitee_classify(edge, &given, &record) == SPLITEE_CORRUPT);
  CHECK(std::strstr(splitee_last_error(), "ends early") != nullptr);
  REQUIRE(splitee_prepare(model, &given, &payload) == SPLITEE_OK);
  CHECK(splitee_engine_begin(engine, &payload) == SPLITEE_CORRUPT);
  given.data = "words";
  given.bytes = 5;
  CHECK(splitee_prepare(model, &given, &payload) == SPLITEE_UNSUPPORTED);
  CHECK(splitee_classify(edge, &given, &record) == SPLITEE_UNSUPPORTED);
  given.data = file.data();
  given.bytes = file.size();
  CHECK(splitee_classify(edge, &given, &record) == SPLITEE_OK);
}
