// Networks on rows of numbers: against a plain reference, split at every block, in batches; and
// files that are wrong.
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "runtime/loader/loader.h"
#include "runtime/numbers/numbers_network.h"
#include "tests/runtime/network_of.h"

using namespace splitee;
using namespace splitee::runtime;
using namespace splitee::runtime::testing;

namespace {

std::vector<float> floats_of(const FileSpec& spec, const std::string& name) {
  for (const TensorSpec& tensor : spec.tensors) {
    if (tensor.name != name) continue;
    std::vector<float> values(tensor.data.size() / sizeof(float));
    std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
    return values;
  }
  FAIL(name);
  return {};
}

Prepared row_of(const std::vector<float>& numbers) {
  Prepared row;
  row.length = 1;
  row.bytes.assign(reinterpret_cast<const std::byte*>(numbers.data()),
                   reinterpret_cast<const std::byte*>(numbers.data() + numbers.size()));
  return row;
}

std::vector<double> dense(const FileSpec& spec, const std::string& name,
                          const std::vector<double>& x) {
  const std::vector<float> w = floats_of(spec, name + ".weight"),
                           b = floats_of(spec, name + ".bias");
  std::vector<double> y(b.begin(), b.end());
  for (std::size_t r = 0; r < y.size(); ++r) {
    for (std::size_t c = 0; c < x.size(); ++c) y[r] += double{w[r * x.size() + c]} * x[c];
  }
  return y;
}

// Every exit's probabilities, straight from the formulas of numbers_format.h.
std::vector<std::vector<double>> reference(const FileSpec& spec, const NumbersShape& shape,
                                           const std::vector<float>& numbers) {
  const std::vector<float> mean = floats_of(spec, "input.mean"), std = floats_of(spec, "input.std");
  std::vector<double> x;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    x.push_back((double{numbers[i]} - double{mean[i]}) / double{std[i]});
  }
  std::vector<std::vector<double>> exits;
  for (std::size_t i = 0; i < shape.widths.size(); ++i) {
    std::vector<double> y = dense(spec, "blk." + std::to_string(i) + ".dense", x);
    for (double& v : y)
      v = shape.gelu ? v * 0.5 * (1 + std::erf(v / std::sqrt(2.0))) : std::max(v, 0.0);
    for (std::size_t k = 0; shape.residual[i] != 0 && k < y.size(); ++k) y[k] += x[k];
    x = y;
    for (const std::uint32_t layer : shape.exit_layers) {
      if (layer != i + 1) continue;
      std::vector<double> p =
          dense(spec, "splitee.exit." + std::to_string(layer) + ".classifier", x);
      double sum = 0;
      for (double& v : p) sum += v = std::exp(v);
      for (double& v : p) v /= sum;
      exits.push_back(p);
    }
  }
  return exits;
}

std::vector<float> probabilities(Engine& engine, const NetworkInfo& info, std::size_t exit) {
  REQUIRE(engine.run_to(info.exit_layers[exit]).ok());
  const auto found = engine.evaluate_exit(exit);
  return {found.begin(), found.end()};
}

std::vector<std::vector<float>> some_rows(std::size_t features) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.0f, 2.0f);
  std::vector<std::vector<float>> rows(9, std::vector<float>(features));
  for (auto& row : rows) {
    for (float& value : row) value = normal(random);
  }
  return rows;
}

const NumbersShape kRelu{};
const NumbersShape kGelu{.features = 5,
                         .widths = {33, 33, 70},
                         .residual = {0, 1, 0},
                         .gelu = true,
                         .classes = 4,
                         .exit_layers = {2, 3},
                         .seed = 8};

}  // namespace

TEST_CASE("Numbers: every exit says what the formulas say, for every target") {
  for (const NumbersShape& shape : {kRelu, kGelu}) {
    const FileSpec spec = random_numbers(shape);
    for (const auto* target : kernels::compiled_targets()) {
      if (!kernels::supported(*target)) continue;
      CAPTURE(std::string(target->target));
      const auto network = load(spec, *target);
      const auto engine = network->make_engine();
      for (const auto& row : some_rows(shape.features)) {
        const auto expected = reference(spec, shape, row);
        REQUIRE(engine->begin(row_of(row).view()).ok());
        for (std::size_t exit = 0; exit < expected.size(); ++exit) {
          CAPTURE(exit);
          const auto found = probabilities(*engine, network->info(), exit);
          REQUIRE(found.size() == expected[exit].size());
          for (std::size_t k = 0; k < found.size(); ++k) {
            CHECK(static_cast<double>(found[k]) ==
                  doctest::Approx(expected[exit][k]).epsilon(1e-4));
          }
        }
      }
    }
  }
}

TEST_CASE("Numbers: split at every block and resumed elsewhere, and in batches, the same bits") {
  for (const std::uint32_t type : {kTensorF32, kTensorBf16, kTensorI8}) {
    for (NumbersShape shape : {kRelu, kGelu}) {
      shape.type = type;
      CAPTURE(type);
      const auto network = load(random_numbers(shape), *kernels::find_target(""));
      const NetworkInfo& info = network->info();
      const std::size_t last = info.exits() - 1;
      const auto edge = network->make_engine(), server = network->make_engine(2);
      const auto together = network->make_batch_engine(64, 2);
      std::vector<std::vector<float>> expected, activations;
      std::vector<Prepared> inputs;
      std::vector<std::size_t> layers;
      for (const auto& row : some_rows(shape.features)) {
        inputs.push_back(row_of(row));
        REQUIRE(edge->begin(inputs.back().view()).ok());
        const auto whole = probabilities(*edge, info, last);
        for (std::size_t layer = 0; layer < info.layers(); ++layer) {
          CAPTURE(layer);
          REQUIRE(edge->begin(inputs.back().view()).ok());
          REQUIRE(edge->run_to(layer).ok());
          const auto view = edge->activation();
          CHECK(view.size() == info.shape(layer, 1).size());
          activations.emplace_back(view.begin(), view.end());
          REQUIRE(server->resume(layer, 1, activations.back()).ok());
          CHECK(probabilities(*server, info, last) == whole);
          expected.push_back(whole);
          layers.push_back(layer);
        }
      }
      std::vector<BatchSample> batch;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        BatchSample sample{.layer = layers[i]};
        if (layers[i] == 0) {
          sample.input = inputs[i / info.layers()].view();
        } else {
          sample.rows = 1;
          sample.activation = activations[i];
        }
        CHECK(together->check(sample).ok());
        batch.push_back(sample);
      }
      std::shuffle(batch.begin(), batch.end(), std::mt19937(5));
      std::shuffle(expected.begin(), expected.end(), std::mt19937(5));
      REQUIRE(batch.size() <= 64);
      REQUIRE(together->run(batch).ok());
      for (std::size_t i = 0; i < batch.size(); ++i) {
        const auto found = together->probabilities(i);
        CHECK(std::vector<float>(found.begin(), found.end()) == expected[i]);
      }
      CHECK(together->run({}).ok());
    }
  }
}

TEST_CASE("Numbers: an exit before its block is complete, and what is ready then") {
  const auto network = load(random_numbers(kGelu));
  const auto engine = network->make_engine();
  const Prepared row = network->random_input(1, 4);
  REQUIRE(engine->begin(row.view()).ok());
  REQUIRE(engine->run_to(2).ok());
  CHECK(engine->ready_layer() == 1);
  CHECK(engine->ready_activation().size() == 33);
  (void)engine->evaluate_exit(0);
  CHECK(engine->ready_layer() == 2);
  REQUIRE(engine->run_to(3).ok());
  CHECK(engine->activation().size() == 70);
}

TEST_CASE("Numbers: what is known of the network") {
  const auto network = load(random_numbers(kGelu));
  const NetworkInfo& info = network->info();
  CHECK(info.architecture == "splitee-numbers");
  CHECK(info.input == InputKind::kNumbers);
  CHECK(info.layers() == 3);
  CHECK(info.exit_layers == std::vector<std::size_t>{2, 3});
  CHECK(info.classes() == 4);
  CHECK(info.shape(0, 1) == Shape{1, 5});
  CHECK(info.shape(3, 1) == Shape{1, 70});
  CHECK(info.bytes_of_input(1) == 20);
  CHECK(operations_after(info.sizes, 0, 1) == 2.0 * (5 * 33 + 33 * 33 + 33 * 70));
  CHECK(operations_after(info.sizes, 2, 1) == 2.0 * 33 * 70);
  CHECK(info.columns.empty());
  FileSpec spec = random_numbers(kRelu);
  spec.keys.push_back({"numbers.columns", kArray,
                       raw_array(kString, 3, raw_string("a") + raw_string("b") + raw_string("c"))});
  CHECK(load(spec)->info().columns == std::vector<std::string>{"a", "b", "c"});
}

TEST_CASE("Numbers: inputs and activations that do not fit are refused, and it keeps working") {
  const auto network = load(random_numbers(kRelu));
  const auto engine = network->make_engine();
  const auto begin = [&](const std::vector<float>& row) {
    return engine->begin(row_of(row).view()).message();
  };
  CHECK(begin({1, 2}).find("2 numbers; the model takes 3") != std::string::npos);
  CHECK(begin({1, std::nanf(""), 2}).find("number 2 is not finite") != std::string::npos);
  CHECK(begin({1, 2, std::numeric_limits<float>::infinity()}).find("number 3") !=
        std::string::npos);
  const Prepared odd{.length = 2, .bytes = row_of({1, 2, 3}).bytes};
  CHECK_FALSE(engine->begin(odd.view()).ok());
  const std::vector<float> eight(8, 0.5f);
  CHECK(engine->resume(5, 1, eight).message().find("layer 5") != std::string::npos);
  CHECK(engine->resume(1, 1, std::span(eight).first(7)).message().find("7 values") !=
        std::string::npos);
  CHECK_FALSE(engine->resume(1, 2, eight).ok());
  CHECK_FALSE(engine->resume(1, 1, std::vector<float>(8, std::nanf(""))).ok());
  CHECK(engine->resume(1, 1, eight).ok());
  CHECK(begin({1, 2, 3}).empty());
  Input text;
  text.bytes = "abcdefghijkl";
  CHECK(network->prepare(text).status().message().find("takes numbers, not text") !=
        std::string::npos);
}

TEST_CASE("Numbers: files that are wrong are refused by name") {
  struct Case {
    std::string word;
    std::function<void(FileSpec&)> spoil;
  };
  const auto set = [](const char* key, std::string value) {
    return [=](FileSpec& spec) { spec.key(key).value = value; };
  };
  const auto sizes = [](const std::vector<std::uint32_t>& values) {
    std::string bytes;
    for (const std::uint32_t value : values) bytes += raw(value);
    return raw_array(kU32, values.size(), bytes);
  };
  const Case cases[] = {
      {"numbers.block_count", set("numbers.block_count", raw<std::uint32_t>(0))},
      {"numbers.feature_count", set("numbers.feature_count", raw<std::uint32_t>(70'000))},
      {"has 2 entries for 3 blocks", set("numbers.widths", sizes({8, 8}))},
      {"numbers.widths has 0", set("numbers.widths", sizes({8, 0, 6}))},
      {"numbers.residual has 2", set("numbers.residual", sizes({0, 2, 0}))},
      {"block 3 has another size", set("numbers.residual", sizes({0, 1, 1}))},
      {"numbers.activation", set("numbers.activation", raw_string("tanh"))},
      {"expected shape (9, 3)", set("numbers.widths", sizes({9, 9, 6}))},
      {"input.mean is missing", [](FileSpec& spec) { spec.erase_tensor("input.mean"); }},
      {"input.std holds a value that is not above 0",
       [](FileSpec& spec) {
         spec.tensor("input.std").data = float_bytes(std::vector<float>{1, 0, 1});
       }},
      {"input.mean holds a value that is not finite",
       [](FileSpec& spec) {
         spec.tensor("input.mean").data = float_bytes(std::vector<float>{1, std::nanf(""), 1});
       }},
      {"blk.1.dense.bias is missing",
       [](FileSpec& spec) { spec.erase_tensor("blk.1.dense.bias"); }},
      {"has no place", [](FileSpec& spec) { spec.tensor("blk.0.dense.bias").name = "blk.9.x"; }},
      {"numbers.columns has 2 entries",
       [](FileSpec& spec) {
         spec.keys.push_back(
             {"numbers.columns", kArray, raw_array(kString, 2, raw_string("a") + raw_string("b"))});
       }},
      {"two equal ones",
       [](FileSpec& spec) {
         spec.keys.push_back(
             {"numbers.columns", kArray,
              raw_array(kString, 3, raw_string("a") + raw_string("b") + raw_string("a"))});
       }},
      {"names a network that is not known", set("general.architecture", raw_string("other"))},
  };
  REQUIRE(problem(random_numbers(kRelu)).empty());
  for (const Case& c : cases) {
    FileSpec spec = random_numbers(kRelu);
    c.spoil(spec);
    const std::string found = problem(spec);
    CAPTURE(c.word);
    CAPTURE(found);
    const bool named = found.find(c.word) != std::string::npos;
    // A tensor under another name is missing before it is one too many.
    CHECK((named || (c.word == "has no place" &&
                     found.find("blk.0.dense.bias is missing") != std::string::npos)));
  }
  // Any byte that changes is found by the hash.
  std::string bytes = build(random_numbers(kRelu));
  for (std::size_t at = 0; at < bytes.size(); at += 7) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    CHECK_FALSE(network_from_bytes("N", as_bytes(damaged), scalar()).ok());
  }
}
