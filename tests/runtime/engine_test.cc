#include "runtime/bert/engine.h"

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/runtime/model_builder.h"

using namespace splitee;
using namespace splitee::runtime;
using namespace splitee::runtime::testing;

namespace {

// Nothing here is a multiple of a vector's width but the last one.
const std::vector<ModelShape> kShapes = {
    {},
    {.layers = 3,
     .hidden = 52,
     .heads = 4,
     .ffn = 101,
     .positions = 21,
     .classes = 5,
     .exit_layers = {1, 3},
     .seed = 2},
    {.layers = 2,
     .hidden = 36,
     .heads = 3,
     .ffn = 70,
     .positions = 40,
     .classes = 2,
     .exit_layers = {2},
     .seed = 3},
    {.layers = 4,
     .hidden = 128,
     .heads = 2,
     .ffn = 256,
     .positions = 32,
     .classes = 2,
     .exit_layers = {1, 2, 3, 4},
     .seed = 4},
};

// All shapes in fp32, and two in the other kinds of arithmetic.
std::vector<ModelShape> shapes_and_types() {
  std::vector<ModelShape> all = kShapes;
  for (const std::uint32_t type : {kTensorBf16, kTensorI8}) {
    for (const std::size_t i : {1u, 3u}) {
      all.push_back(kShapes[i]);
      all.back().type = type;
    }
  }
  return all;
}

std::vector<const splitee::kernels::Kernels*> targets() {
  std::vector<const splitee::kernels::Kernels*> found;
  for (const auto* target : splitee::kernels::compiled_targets()) {
    if (splitee::kernels::supported(*target)) {
      found.push_back(target);
    } else {
      MESSAGE("skipped, not supported here: " << std::string(target->target));
    }
  }
  return found;
}

std::shared_ptr<const BertNetwork> load(const ModelShape& shape,
                                        const splitee::kernels::Kernels& kernels) {
  const auto model = BertNetwork::from_bytes("M", as_bytes(build(random_model(shape))), kernels);
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  return *model;
}

std::shared_ptr<const BertNetwork> load_scalar(const ModelShape& shape = {}) {
  return load(shape, *splitee::kernels::find_target("scalar"));
}

struct Sample {
  std::vector<std::int32_t> ids, types;
};

std::vector<Sample> samples(const ModelConfig& config) {
  std::mt19937 random(7);
  std::vector<Sample> all;
  for (const std::size_t tokens :
       {std::size_t{1}, std::size_t{2}, std::size_t{5}, config.max_tokens - 1, config.max_tokens}) {
    Sample sample;
    for (std::size_t i = 0; i < tokens; ++i) {
      sample.ids.push_back(static_cast<std::int32_t>(random() % config.vocab));
      sample.types.push_back(static_cast<std::int32_t>(random() % config.token_types));
    }
    all.push_back(sample);
  }
  return all;
}

std::vector<float> copy_of(std::span<const float> values) {
  return {values.begin(), values.end()};
}

// Every exit's probabilities one after the other, from the layer that the engine has reached.
std::vector<float> remaining_exits(BertEngine& engine) {
  const ModelConfig& config = engine.model().config();
  std::vector<float> all;
  for (std::size_t i = 0; i < config.exit_layers.size(); ++i) {
    if (config.exit_layers[i] < engine.layer()) continue;
    REQUIRE(engine.run_to(config.exit_layers[i]).ok());
    const auto probabilities = engine.evaluate_exit(i);
    all.insert(all.end(), probabilities.begin(), probabilities.end());
  }
  return all;
}

std::vector<float> all_exits(BertEngine& engine, const Sample& sample) {
  const Status status = engine.begin(sample.ids, sample.types);
  REQUIRE_MESSAGE(status.ok(), status.message());
  return remaining_exits(engine);
}

}  // namespace

TEST_CASE("Engine: probabilities are probabilities, and differ between samples and exits") {
  const auto model = load_scalar(kShapes[1]);
  BertEngine engine(model);
  const auto some = samples(model->config());
  const std::vector<float> first = all_exits(engine, some[3]), second = all_exits(engine, some[4]);
  REQUIRE(first.size() == 10);
  for (std::size_t exit = 0; exit < 2; ++exit) {
    float sum = 0;
    for (std::size_t c = 0; c < 5; ++c) sum += first[5 * exit + c];
    CHECK(sum == doctest::Approx(1));
  }
  CHECK(first != second);
  CHECK(std::vector<float>(first.begin(), first.begin() + 5) !=
        std::vector<float>(first.begin() + 5, first.end()));
}

TEST_CASE("Engine: the same bits for 1, 2 and 3 threads, for every target") {
  for (const auto* target : targets()) {
    for (const ModelShape& shape : shapes_and_types()) {
      const auto model = load(shape, *target);
      BertEngine one(model, 1), two(model, 2), three(model, 3);
      for (const Sample& sample : samples(model->config())) {
        CAPTURE(std::string(target->target));
        CAPTURE(shape.hidden);
        CAPTURE(shape.type);
        CAPTURE(sample.ids.size());
        const std::vector<float> expected = all_exits(one, sample);
        CHECK(all_exits(two, sample) == expected);
        CHECK(all_exits(three, sample) == expected);
        CHECK(all_exits(one, sample) == expected);
      }
    }
  }
}

TEST_CASE("Engine: split at every layer and resumed by another engine, the same bits") {
  for (const auto* target : targets()) {
    for (const ModelShape& shape : shapes_and_types()) {
      const auto model = load(shape, *target);
      const auto other_model = load(shape, *target);
      for (const Sample& sample : samples(model->config())) {
        BertEngine edge(model), server(other_model, 2);
        const std::vector<float> expected = all_exits(edge, sample);
        for (std::size_t layer = 0; layer <= shape.layers; ++layer) {
          CAPTURE(std::string(target->target));
          CAPTURE(layer);
          REQUIRE(edge.begin(sample.ids, sample.types).ok());
          REQUIRE(edge.run_to(layer).ok());
          REQUIRE(edge.layer() == layer);
          const auto view = edge.activation();
          CHECK(view.size() == sample.ids.size() * shape.hidden);
          const std::vector<float> sent(view.begin(), view.end());
          REQUIRE(server.resume(layer, sample.ids.size(), sent).ok());
          CHECK(server.layer() == layer);
          CHECK(server.tokens() == sample.ids.size());
          const std::vector<float> found = remaining_exits(server);
          CHECK(found == std::vector<float>(expected.end() - static_cast<long>(found.size()),
                                            expected.end()));
        }
      }
    }
  }
}

TEST_CASE("Engine: exits read before and after their layer is finished, the same bits") {
  for (const auto* target : targets()) {
    for (const ModelShape& shape : shapes_and_types()) {
      const auto model = load(shape, *target);
      BertEngine eager(model), lazy(model, 2);
      for (const Sample& sample : samples(model->config())) {
        REQUIRE(eager.begin(sample.ids, sample.types).ok());
        REQUIRE(lazy.begin(sample.ids, sample.types).ok());
        for (std::size_t exit = 0; exit < shape.exit_layers.size(); ++exit) {
          CAPTURE(std::string(target->target));
          CAPTURE(shape.hidden);
          CAPTURE(shape.type);
          CAPTURE(shape.type);
          CAPTURE(sample.ids.size());
          CAPTURE(exit);
          const std::size_t layer = shape.exit_layers[exit];
          REQUIRE(eager.run_to(layer).ok());
          eager.finish_layer();
          CHECK(eager.ready_layer() == layer);
          REQUIRE(lazy.run_to(layer).ok());
          CHECK(lazy.layer() == layer);
          const auto expected = copy_of(eager.evaluate_exit(exit));
          CHECK(copy_of(lazy.evaluate_exit(exit)) == expected);
          CHECK(lazy.ready_layer() == layer - 1);
          CHECK(copy_of(lazy.evaluate_exit(exit)) == expected);
          if (exit % 2 == 0) continue;
          CHECK(copy_of(lazy.activation()) == copy_of(eager.activation()));
          CHECK(copy_of(lazy.evaluate_exit(exit)) == expected);
        }
      }
    }
  }
}

TEST_CASE("Engine: exits that read the mean finish their layer; the same bits from everywhere") {
  for (const auto* target : targets()) {
    for (ModelShape shape : shapes_and_types()) {
      shape.mean_exits = true;
      const auto model = load(shape, *target);
      BertEngine whole(model), parted(model, 2);
      for (const Sample& sample : samples(model->config())) {
        CAPTURE(std::string(target->target));
        CAPTURE(shape.hidden);
        CAPTURE(shape.type);
        CAPTURE(sample.ids.size());
        const std::vector<float> expected = all_exits(whole, sample);
        REQUIRE(parted.begin(sample.ids, sample.types).ok());
        for (std::size_t exit = 0; exit < shape.exit_layers.size(); ++exit) {
          const std::size_t layer = shape.exit_layers[exit];
          REQUIRE(parted.run_to(layer).ok());
          const auto first = copy_of(parted.evaluate_exit(exit));
          CHECK(parted.ready_layer() == layer);
          CHECK(copy_of(parted.evaluate_exit(exit)) == first);
          REQUIRE(whole.resume(layer, sample.ids.size(), parted.ready_activation()).ok());
          const std::vector<float> found = remaining_exits(whole);
          CHECK(found == std::vector<float>(expected.end() - static_cast<long>(found.size()),
                                            expected.end()));
        }
      }
    }
  }
}

TEST_CASE("Engine: the mean and the first token are read from the same activation") {
  ModelShape shape = kShapes[1];
  BertEngine first(load_scalar(shape));
  shape.mean_exits = true;
  BertEngine mean(load_scalar(shape));
  for (const Sample& sample : samples(first.model().config())) {
    CHECK((all_exits(first, sample) == all_exits(mean, sample)) == (sample.ids.size() == 1));
  }
}

TEST_CASE("Engine: resumed from what is ready when an exit was read, the same bits") {
  const ModelShape& shape = kShapes[3];
  const auto model = load(shape, *targets().front());
  for (const Sample& sample : samples(model->config())) {
    BertEngine edge(model), server(model);
    const std::vector<float> expected = all_exits(edge, sample);
    REQUIRE(edge.begin(sample.ids, sample.types).ok());
    for (std::size_t exit = 0; exit < 4; ++exit) {
      REQUIRE(edge.run_to(exit + 1).ok());
      edge.evaluate_exit(exit);
      REQUIRE(edge.ready_layer() == exit);
      REQUIRE(server.resume(exit, sample.ids.size(), edge.ready_activation()).ok());
      const std::vector<float> found = remaining_exits(server);
      CHECK(found ==
            std::vector<float>(expected.end() - static_cast<long>(found.size()), expected.end()));
      // The server may resume from its own view, too.
      if (exit == 2) {
        REQUIRE(edge.resume(exit, sample.ids.size(), edge.ready_activation()).ok());
      }
    }
  }
}

TEST_CASE("Engine: every target is within 1e-5 of the scalar one") {
  for (const ModelShape& shape : kShapes) {
    BertEngine scalar(load_scalar(shape));
    for (const auto* target : targets()) {
      BertEngine engine(load(shape, *target));
      for (const Sample& sample : samples(scalar.model().config())) {
        const std::vector<float> expected = all_exits(scalar, sample);
        const std::vector<float> found = all_exits(engine, sample);
        REQUIRE(found.size() == expected.size());
        float difference = 0;
        for (std::size_t i = 0; i < found.size(); ++i) {
          difference = std::max(difference, std::abs(found[i] - expected[i]));
        }
        CAPTURE(std::string(target->target));
        CAPTURE(shape.hidden);
        CAPTURE(shape.type);
        CHECK(difference <= 1e-5f);
      }
    }
  }
}

// An activation next to the border between two values may be rounded to either, and that moves an
// answer; the kernels' own tests compare products exactly.
TEST_CASE("Engine: bf16 and i8 are near the scalar target's, and near fp32 on the same values") {
  for (const std::uint32_t type : {kTensorBf16, kTensorI8}) {
    ModelShape shape = kShapes[3];
    shape.type = type;
    const std::string bytes = build(random_model(shape));
    const auto open = [&](const splitee::kernels::Kernels& kernels, bool exact) {
      return *BertNetwork::from_bytes("M", as_bytes(bytes), kernels, {.exact = exact});
    };
    const auto& scalar_kernels = *splitee::kernels::find_target("scalar");
    BertEngine scalar(open(scalar_kernels, false)), exact(open(scalar_kernels, true));
    for (const auto* target : targets()) {
      BertEngine engine(open(*target, false));
      for (const Sample& sample : samples(engine.model().config())) {
        const std::vector<float> found = all_exits(engine, sample);
        const std::vector<float> same = all_exits(scalar, sample), near = all_exits(exact, sample);
        CAPTURE(std::string(target->target));
        CAPTURE(type);
        float of_targets = 0, of_types = 0;
        for (std::size_t i = 0; i < found.size(); ++i) {
          of_targets = std::max(of_targets, std::abs(found[i] - same[i]));
          of_types = std::max(of_types, std::abs(found[i] - near[i]));
        }
        CHECK(of_targets <= 0.02f);
        CHECK(of_types <= 0.15f);
        CHECK(of_types > 0);
      }
    }
  }
}

TEST_CASE("Engine: begin refuses wrong samples, and keeps working") {
  const auto model = load_scalar();
  BertEngine engine(model);
  const Sample good{{2, 5, 3}, {0, 0, 1}};
  const std::vector<float> expected = all_exits(engine, good);
  const auto refused = [&](const Sample& sample, const std::string& word) {
    const Status status = engine.begin(sample.ids, sample.types);
    CAPTURE(status.message());
    CHECK(status.code() == Code::kInvalidArgument);
    CHECK(status.message().find(word) != std::string::npos);
  };
  refused({{}, {}}, "0 tokens");
  refused({std::vector<std::int32_t>(10, 2), std::vector<std::int32_t>(10, 0)}, "10 tokens");
  refused({{2, 3}, {0}}, "2 token ids with 1 token types");
  refused({{2, 11, 3}, {0, 0, 0}}, "token id 11 at token 1");
  refused({{2, 3, -1}, {0, 0, 0}}, "token id -1 at token 2");
  refused({{2, 3}, {0, 2}}, "token type 2 at token 1");
  refused({{2, 3}, {-1, 0}}, "token type -1 at token 0");
  CHECK(all_exits(engine, good) == expected);
}

TEST_CASE("Engine: resume refuses what does not fit the model or is not finite") {
  const auto model = load_scalar();
  BertEngine engine(model);
  const std::vector<float> good(3 * 12, 0.5f);
  const auto refused = [&](std::size_t layer, std::size_t tokens, std::vector<float> values,
                           const std::string& word) {
    const Status status = engine.resume(layer, tokens, values);
    CAPTURE(status.message());
    CHECK(status.code() == Code::kInvalidArgument);
    CHECK(status.message().find(word) != std::string::npos);
  };
  constexpr std::size_t kMax = std::numeric_limits<std::size_t>::max();
  refused(3, 3, good, "layer 3");
  refused(kMax, 3, good, "layer");
  refused(1, 0, {}, "0 tokens");
  refused(1, 10, std::vector<float>(120, 0), "10 tokens");
  refused(1, kMax / 12 + 2, good, "tokens");
  refused(1, 2, good, "36 values");
  refused(1, 4, good, "36 values");
  refused(1, 3, {}, "0 values");
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float bad : {std::nanf(""), kInfinity, -kInfinity}) {
    for (const std::size_t at : {0u, 17u, 35u}) {
      std::vector<float> values = good;
      values[at] = bad;
      refused(1, 3, values, "not finite");
    }
  }
  CHECK(engine.resume(2, 3, good).ok());
  CHECK(engine.evaluate_exit(1).size() == 3);
}

TEST_CASE("Engine: resume from its own activation") {
  const auto model = load_scalar();
  BertEngine engine(model);
  const Sample sample{{2, 5, 3}, {0, 0, 1}};
  const std::vector<float> expected = all_exits(engine, sample);
  REQUIRE(engine.begin(sample.ids, sample.types).ok());
  REQUIRE(engine.resume(0, 3, engine.activation()).ok());
  CHECK(remaining_exits(engine) == expected);
}

TEST_CASE("Engine: an exit's temperature divides its logits") {
  FileSpec spec = random_model({});
  const auto load_spec = [&] {
    return *BertNetwork::from_bytes("M", as_bytes(build(spec)),
                                    *splitee::kernels::find_target("scalar"));
  };
  BertEngine plain(load_spec());
  spec.keys.push_back(
      {"splitee.exit_temperatures", kArray, raw_array(kF32, 2, raw(1.0f) + raw(2.0f))});
  BertEngine cool(load_spec());
  const Sample sample{{2, 5, 3}, {0, 0, 1}};
  const std::vector<float> before = all_exits(plain, sample), after = all_exits(cool, sample);
  // p_i / p_j = exp((l_i - l_j) / t), so that the ratio at t = 2 is the square root of that at 1.
  for (std::size_t c = 0; c < 3; ++c) CHECK(before[c] == after[c]);
  for (std::size_t c = 4; c < 6; ++c) {
    CHECK(after[c] / after[3] == doctest::Approx(std::sqrt(before[c] / before[3])));
  }
}
