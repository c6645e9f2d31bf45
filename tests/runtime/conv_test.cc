// Networks on images: split at every block, in batches and on threads the same bits, every target
// close to the scalar one; and files and inputs that are wrong. What they compute is checked
// against NumPy (tests/tools/images_test.py).
#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "runtime/image/image.h"
#include "runtime/loader/loader.h"
#include "tests/runtime/network_of.h"

using namespace splitee;
using namespace splitee::runtime;
using namespace splitee::runtime::testing;

namespace {

ConvShape basic() {
  return {.height = 11,
          .width = 10,
          .channels = {8, 12, 12},
          .strides = {1, 2, 1},
          .exit_layers = {1, 3},
          .exit_channels = {0, 20}};
}
ConvShape pooled() {
  ConvShape shape = basic();
  shape.stem_kernel = 7;
  shape.stem_stride = 2;
  shape.stem_pool = 1;
  shape.projection = false;
  return shape;
}
// More panels of channels than lines of pixels.
ConvShape wide() {
  ConvShape shape = basic();
  shape.channels = {8, 300, 300};
  shape.strides = {2, 2, 1};
  return shape;
}
ConvShape inverted() {
  ConvShape shape = basic();
  shape.inverted = true;
  shape.hidden = {8, 40, 72};
  shape.activation = "relu6";
  return shape;
}
// With inner maps in integers: behind an expand, and in block 2 without one.
ConvShape integers() {
  ConvShape shape = inverted();
  shape.channels = {32, 12, 12};
  shape.hidden = {8, 32, 72};
  shape.type = kTensorI8;
  return shape;
}

std::vector<float> probabilities(Engine& engine, const NetworkInfo& info, std::size_t exit) {
  REQUIRE(engine.run_to(info.exit_layers[exit]).ok());
  const auto found = engine.evaluate_exit(exit);
  return {found.begin(), found.end()};
}

}  // namespace

TEST_CASE("Images: every target says what the scalar one says") {
  for (const ConvShape& shape : {basic(), pooled(), inverted(), integers()}) {
    // A value in the middle between two units may become either.
    const float tolerance = shape.type == kTensorI8 ? 1e-3f : 1e-5f;
    const FileSpec spec = random_conv(shape);
    const auto expected = load(spec);
    for (const auto* target : kernels::compiled_targets()) {
      if (!kernels::supported(*target)) continue;
      CAPTURE(std::string(target->target));
      const auto network = load(spec, *target);
      const auto one = expected->make_engine(), other = network->make_engine();
      for (std::uint64_t seed = 0; seed < 4; ++seed) {
        const Prepared image = network->random_input(1, seed);
        REQUIRE(one->begin(image.view()).ok());
        REQUIRE(other->begin(image.view()).ok());
        for (std::size_t exit = 0; exit < network->info().exits(); ++exit) {
          const auto a = probabilities(*one, network->info(), exit);
          const auto b = probabilities(*other, network->info(), exit);
          for (std::size_t k = 0; k < a.size(); ++k) {
            CHECK(std::fabs(a[k] - b[k]) < tolerance);
          }
        }
      }
    }
  }
}

TEST_CASE("Images: split at every block, in batches and on threads, the same bits") {
  for (const std::uint32_t type : {kTensorF32, kTensorBf16, kTensorI8}) {
    for (ConvShape shape : {basic(), pooled(), wide(), inverted(), integers()}) {
      shape.type = type;
      CAPTURE(type);
      const auto network = load(random_conv(shape), *kernels::find_target(""));
      const NetworkInfo& info = network->info();
      const std::size_t last = info.exits() - 1;
      const auto edge = network->make_engine(), server = network->make_engine(3);
      const auto together = network->make_batch_engine(16, 2);
      std::vector<std::vector<float>> expected, activations;
      std::vector<Prepared> images;
      std::vector<BatchSample> batch;
      for (std::uint64_t seed = 0; seed < 4; ++seed)
        images.push_back(network->random_input(1, seed));
      activations.reserve(images.size() * info.layers());
      for (const Prepared& image : images) {
        REQUIRE(edge->begin(image.view()).ok());
        const auto whole = probabilities(*edge, info, last);
        for (std::size_t layer = 0; layer < info.layers(); ++layer) {
          CAPTURE(layer);
          REQUIRE(edge->begin(image.view()).ok());
          REQUIRE(edge->run_to(layer).ok());
          const auto view = edge->activation();
          CHECK(view.size() == info.shape(layer, 1).size());
          activations.emplace_back(view.begin(), view.end());
          const std::size_t rows = info.shape(layer, 1).rows;
          REQUIRE(server->resume(layer, rows, activations.back()).ok());
          CHECK(probabilities(*server, info, last) == whole);
          expected.push_back(whole);
          if (layer == 0) {
            batch.push_back({.layer = 0, .input = image.view()});
          } else {
            batch.push_back({.layer = layer, .rows = rows, .activation = activations.back()});
          }
          CHECK(together->check(batch.back()).ok());
        }
      }
      std::shuffle(batch.begin(), batch.end(), std::mt19937(5));
      std::shuffle(expected.begin(), expected.end(), std::mt19937(5));
      REQUIRE(together->run(batch).ok());
      for (std::size_t i = 0; i < batch.size(); ++i) {
        const auto found = together->probabilities(i);
        CHECK(std::vector<float>(found.begin(), found.end()) == expected[i]);
      }
      CHECK(together->run({}).ok());
    }
  }
}

TEST_CASE("Images: what is known of the network") {
  const auto network = load(random_conv(inverted()));
  const NetworkInfo& info = network->info();
  CHECK(info.architecture == "splitee-conv");
  CHECK(info.input == InputKind::kImage);
  CHECK(info.layers() == 3);
  CHECK(info.shape(0, 7) == Shape{110, 3});
  CHECK(info.shape(1, 1) == Shape{110, 8});
  CHECK(info.shape(3, 1) == Shape{30, 12});
  CHECK_FALSE(info.work_grows());
  CHECK(info.bytes_of_input(2) == 2048);
  // The stem; then expand, depthwise, project of each block.
  const double stem = 110.0 * 8 * 27, first = 110.0 * (8 * 9 + 8 * 8);
  const double second = 110.0 * 40 * 8 + 30.0 * (40 * 9 + 40 * 12);
  const double third = 30.0 * (72 * 12 + 72 * 9 + 72 * 12);
  CHECK(operations_after(info.sizes, 0, 1) == 2 * (stem + first + second + third));
  CHECK(operations_after(info.sizes, 2, 9) == 2 * third);
  const auto engine = network->make_engine();
  REQUIRE(engine->begin(network->random_input(1, 1).view()).ok());
  REQUIRE(engine->run_to(3).ok());
  CHECK(engine->ready_layer() == 2);
  CHECK(engine->ready_activation().size() == 30 * 12);
  (void)engine->evaluate_exit(1);
  CHECK(engine->ready_layer() == 3);
}

TEST_CASE("Images: inputs and activations that do not fit are refused, and it keeps working") {
  const auto network = load(random_conv(basic()));
  const auto engine = network->make_engine();
  Prepared image = network->random_input(1, 1);
  image.length = 2;
  CHECK(engine->begin(image.view()).message().find("said to have 2 KiB") != std::string::npos);
  image = network->random_input(1, 1);
  image.bytes.pop_back();
  CHECK(engine->begin(image.view()).message().find("ends early") != std::string::npos);
  CHECK_FALSE(network->make_batch_engine(1)->check({.layer = 0, .input = image.view()}).ok());
  const std::vector<float> map(110 * 8, 0.5f);
  CHECK(engine->resume(4, 110, map).message().find("layer 4") != std::string::npos);
  CHECK(engine->resume(1, 109, map).message().find("110 rows of 8") != std::string::npos);
  CHECK_FALSE(engine->resume(1, 110, std::span(map).first(7)).ok());
  CHECK_FALSE(engine->resume(1, 110, std::vector<float>(110 * 8, std::nanf(""))).ok());
  CHECK(engine->resume(1, 110, map).ok());
  CHECK(engine->begin(network->random_input(1, 1).view()).ok());
  Input text;
  text.bytes = "P6";
  CHECK(network->prepare(text).status().message().find("takes images, not text") !=
        std::string::npos);
  text.kind = InputKind::kImage;
  text.bytes = "words";
  CHECK_FALSE(network->prepare(text).ok());
}

TEST_CASE("Images: what was decoded once is not decoded again") {
  const auto network = load(random_conv(basic()));
  const NetworkInfo& info = network->info();
  const std::size_t last = info.exits() - 1;
  const auto engine = network->make_engine();
  Prepared image = network->random_input(1, 1);
  REQUIRE(engine->begin(image.view()).ok());
  const std::vector<float> expected = probabilities(*engine, info, last);
  REQUIRE(network->decode(image.view(), image.decoded).ok());
  // The file is not looked at any more.
  image.bytes.assign(image.bytes.size(), std::byte{0});
  REQUIRE(engine->begin(image.view()).ok());
  CHECK(probabilities(*engine, info, last) == expected);
  const auto batch = network->make_batch_engine(1);
  const BatchSample sample{.layer = 0, .input = image.view()};
  REQUIRE(batch->check(sample).ok());
  REQUIRE(batch->run({&sample, 1}).ok());
  const auto found = batch->probabilities(0);
  CHECK(std::vector<float>(found.begin(), found.end()) == expected);
  CHECK_FALSE(network->decode(image.view(), image.decoded).ok());
}

TEST_CASE("Images: files that are wrong are refused by name") {
  struct Case {
    std::string word;
    std::function<void(FileSpec&)> spoil;
  };
  const auto number = [](const char* key, std::uint32_t value) {
    return [=](FileSpec& spec) { spec.key(key).value = raw(value); };
  };
  const auto sizes = [](const char* key, const std::vector<std::uint32_t>& values) {
    return [=](FileSpec& spec) {
      std::string bytes;
      for (const std::uint32_t value : values) bytes += raw(value);
      spec.key(key).value = raw_array(kU32, values.size(), bytes);
    };
  };
  const auto floats = [](const char* key, std::vector<float> values) {
    return [=](FileSpec& spec) {
      spec.key(key).value = raw_array(kF32, values.size(), float_bytes(values));
    };
  };
  const auto word = [](const char* key, const char* value) {
    return [=](FileSpec& spec) { spec.key(key).value = raw_string(value); };
  };
  const Case cases[] = {
      {"conv.input_height", number("conv.input_height", 0)},
      {"conv.input_width", number("conv.input_width", 513)},
      {"conv.mean has 2 entries", floats("conv.mean", {1, 2})},
      {"conv.std has a value", floats("conv.std", {1, 0, 1})},
      {"conv.mean has a value", floats("conv.mean", {1, std::nanf(""), 1})},
      {"conv.stem_kernel is even", number("conv.stem_kernel", 4)},
      {"conv.stem_kernel", number("conv.stem_kernel", 9)},
      {"conv.stem_stride", number("conv.stem_stride", 0)},
      {"conv.stem_channels", number("conv.stem_channels", 5000)},
      {"conv.stem_pool", number("conv.stem_pool", 2)},
      {"conv.activation", word("conv.activation", "gelu")},
      {"conv.block", word("conv.block", "bottleneck")},
      {"conv.block_count", number("conv.block_count", 0)},
      {"conv.channels has 3 entries for 4 blocks", number("conv.block_count", 4)},
      {"conv.channels has 0", sizes("conv.channels", {8, 0, 12})},
      {"conv.strides has 3", sizes("conv.strides", {1, 3, 1})},
      {"conv.exit_channels has 1 entries for 2 exits", sizes("conv.exit_channels", {0})},
      {"conv.exit_channels has 16385", sizes("conv.exit_channels", {0, 16385})},
      {"expected shape (8, 27)", number("conv.stem_kernel", 5)},
      {"expected shape (12, 72)", sizes("conv.channels", {8, 13, 12})},
      {"a map has",
       [&](FileSpec& spec) {
         number("conv.input_height", 512)(spec);
         number("conv.input_width", 512)(spec);
         number("conv.stem_channels", 4096)(spec);
       }},
      {"a map behind a block has",
       [&](FileSpec& spec) {
         number("conv.input_height", 512)(spec);
         number("conv.input_width", 512)(spec);
       }},
      {"stem.weight is missing", [](FileSpec& spec) { spec.erase_tensor("stem.weight"); }},
      {"blk.1.shortcut.weight is missing",
       [](FileSpec& spec) { spec.erase_tensor("blk.1.shortcut.weight"); }},
      {"has no place",
       [](FileSpec& spec) {
         TensorSpec more = spec.tensor("stem.bias");
         more.name = "blk.0.shortcut.bias";
         spec.tensors.push_back(more);
       }},
      {"splitee.output",
       [](FileSpec& spec) {
         spec.keys.push_back({"splitee.output", kString, raw_string("sigmoid")});
       }},
      {"conv.resize is below",
       [](FileSpec& spec) {
         spec.keys.push_back({"conv.resize", kU32, raw<std::uint32_t>(10)});
       }},
      {"conv.resize",
       [](FileSpec& spec) {
         spec.keys.push_back({"conv.resize", kU32, raw<std::uint32_t>(2000)});
       }},
  };
  REQUIRE(problem(random_conv(basic())).empty());
  for (const Case& c : cases) {
    FileSpec spec = random_conv(basic());
    c.spoil(spec);
    const std::string found = problem(spec);
    CAPTURE(c.word);
    CAPTURE(found);
    const bool shape = c.word.starts_with("expected shape");
    CHECK((found.find(c.word) != std::string::npos ||
           (shape && found.find("expected shape") != std::string::npos)));
  }
  FileSpec fewer = random_conv(pooled());
  std::string values = raw<std::uint32_t>(8) + raw<std::uint32_t>(12) + raw<std::uint32_t>(4);
  fewer.key("conv.channels").value = raw_array(kU32, 3, values);
  CHECK(problem(fewer).find("block 3 has fewer channels than its input") != std::string::npos);
  FileSpec hidden = random_conv(inverted());
  values = raw<std::uint32_t>(8) + raw<std::uint32_t>(40) + raw<std::uint32_t>(70'000);
  hidden.key("conv.hidden").value = raw_array(kU32, 3, values);
  CHECK(problem(hidden).find("conv.hidden has 70000") != std::string::npos);
}
