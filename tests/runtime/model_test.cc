#include "runtime/model.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "runtime/engine.h"
#include "runtime/file.h"
#include "tests/runtime/model_builder.h"
#include "tests/runtime/temp_folder.h"

using namespace splitee::runtime;
using namespace splitee::runtime::testing;

namespace {

const splitee::kernels::Kernels& scalar() {
  return *splitee::kernels::find_target("scalar");
}

std::shared_ptr<const Model> load(const FileSpec& spec, const ModelOptions& options = {}) {
  const auto model = Model::from_bytes("M", as_bytes(build(spec)), scalar(), options);
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  return *model;
}

std::vector<float> answer(const std::shared_ptr<const Model>& model) {
  Engine engine(model);
  REQUIRE(
      engine.begin(std::vector<std::int32_t>{2, 7, 3}, std::vector<std::int32_t>{0, 1, 0}).ok());
  REQUIRE(engine.run_to(model->config().layers).ok());
  const auto probabilities = engine.evaluate_exit(model->config().exit_layers.size() - 1);
  return {probabilities.begin(), probabilities.end()};
}

std::vector<float> floats_of(const TensorSpec& tensor) {
  std::vector<float> values(tensor.data.size() / sizeof(float));
  std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
  return values;
}

}  // namespace

TEST_CASE("Model: configuration, labels and optional keys") {
  FileSpec spec = random_model({.layers = 3, .exit_layers = {2, 3}});
  const auto plain = load(spec);
  const ModelConfig& config = plain->config();
  CHECK(config.layers == 3);
  CHECK(config.hidden == 12);
  CHECK(config.heads == 2);
  CHECK(config.ffn == 20);
  CHECK(config.max_tokens == 9);
  CHECK(config.vocab == 11);
  CHECK(config.token_types == 2);
  CHECK(config.classes == 3);
  CHECK(config.layer_norm_epsilon == 1e-12f);
  CHECK(config.exit_layers == std::vector<std::size_t>{2, 3});
  CHECK(config.labels == std::vector<std::string>{"c0", "c1", "c2"});
  CHECK(config.alpha == 0);
  CHECK(config.dtype == std::string("f32"));
  CHECK(plain->path() == std::string("M"));
  CHECK(plain->temperature(1) == 1.0f);

  spec.keys.push_back({"splitee.alpha", kF32, raw(0.75f)});
  spec.keys.push_back(
      {"splitee.exit_temperatures", kArray, raw_array(kF32, 2, raw(0.5f) + raw(2.0f))});
  spec.keys.push_back({"bert.attention.causal", kBool, std::string(1, '\0')});
  spec.keys.push_back({"general.name", kString, raw_string("anything")});
  const auto more = load(spec);
  CHECK(more->config().alpha == 0.75);
  CHECK(more->temperature(0) == 0.5f);
  CHECK(more->temperature(1) == 2.0f);
}

TEST_CASE("Model: the vocabulary is turned back to BERT's spelling") {
  FileSpec spec = random_model({});
  const std::vector<std::string> stored = {"[PAD]",
                                           "[UNK]",
                                           "[CLS]",
                                           "[SEP]",
                                           "\xe2\x96\x81word",
                                           "ing",
                                           "\xe2\x96\x81\xe2\x96\x81x",
                                           "##\xe2\x96\x81",
                                           "\xe2\x96\x81##a",
                                           "[x",
                                           "##b"};
  const std::vector<std::int32_t> kinds = {3, 3, 3, 3, 1, 1, 1, 4, 1, 1, 4};
  std::string tokens, kind_bytes;
  for (const std::string& token : stored) tokens += raw_string(token);
  for (const std::int32_t kind : kinds) kind_bytes += raw(kind);
  spec.key("tokenizer.ggml.tokens").value = raw_array(kString, stored.size(), tokens);
  spec.key("tokenizer.ggml.token_type").value = raw_array(kI32, kinds.size(), kind_bytes);
  CHECK(load(spec)->tokenizer().vocab() ==
        std::vector<std::string>{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "word", "##ing",
                                 "\xe2\x96\x81x", "##\xe2\x96\x81", "##a", "##[x", "##b"});
}

TEST_CASE("Model: lower-casing follows its key") {
  FileSpec spec = random_model({});
  const std::string word = "\xe2\x96\x81T5";
  std::string& tokens = spec.key("tokenizer.ggml.tokens").value;
  tokens.replace(tokens.find("t6") - 3, 5, word);
  spec.keys.push_back({"splitee.lower_case", kBool, std::string(1, '\0')});
  CHECK(load(spec)->tokenizer().encode("T5", nullptr, 9).ids == std::vector<std::int32_t>{2, 6, 3});
  spec.key("splitee.lower_case").value = "\1";
  CHECK(load(spec)->tokenizer().encode("T5", nullptr, 9).ids == std::vector<std::int32_t>{2, 1, 3});
}

TEST_CASE("Model: open() reads what from_bytes() reads, and the hash is the file's") {
  const TempFolder folder;
  const std::string path = folder.file("m.gguf");
  const std::string bytes = build(random_model({}));
  REQUIRE(write_file_atomically(path, as_bytes(bytes)).ok());
  const auto opened = Model::open(path, scalar());
  REQUIRE(opened.ok());
  const auto same = Model::from_bytes("M", as_bytes(bytes), scalar());
  CHECK((*opened)->hash() == (*same)->hash());
  CHECK((*opened)->path() == path);
  CHECK(answer(*opened) == answer(*same));
  CHECK(load(random_model({.seed = 2}))->hash() != (*opened)->hash());
  // The name is not needed any more.
  std::filesystem::remove(path);
  CHECK(answer(*opened) == answer(*same));
}

TEST_CASE("Model: bytes at any address") {
  const std::string bytes = build(random_model({}));
  const auto aligned = Model::from_bytes("M", as_bytes(bytes), scalar());
  const std::string shifted = "x" + bytes;
  const auto moved = Model::from_bytes("M", as_bytes(shifted).subspan(1), scalar());
  REQUIRE(aligned.ok());
  REQUIRE(moved.ok());
  CHECK(answer(*aligned) == answer(*moved));
}

TEST_CASE("Model: exact i8 with scales, bf16 and f16 equal the f32 file of the same values") {
  for (const std::uint32_t type : {kTensorI8, kTensorBf16, kTensorF16}) {
    CAPTURE(type);
    FileSpec narrow = random_model({}), wide = random_model({});
    for (const std::string name : {"token_embd.weight", "blk.0.attn_k.weight",
                                   "blk.1.ffn_down.weight", "splitee.exit.2.pooler.weight"}) {
      TensorSpec& to = narrow.tensor(name);
      std::vector<float> values = floats_of(to);
      std::string data;
      std::vector<float> scales;
      const std::size_t cols = to.dims[1];
      for (std::size_t i = 0; i < values.size(); ++i) {
        // Values that each of the types holds exactly.
        const auto step = static_cast<std::int8_t>(std::lround(values[i] * 8) % 16);
        if (i % cols == 0) scales.push_back(0.125f * static_cast<float>(1 + i / cols % 2));
        const float scale = type == kTensorI8 ? scales.back() : 0.125f;
        values[i] = step * scale;
        std::uint32_t bits;
        std::memcpy(&bits, &values[i], sizeof(bits));
        if (type == kTensorI8) data += raw(step);
        if (type == kTensorBf16) data += raw(static_cast<std::uint16_t>(bits >> 16));
        if (type == kTensorF16) {
          const std::uint32_t half =
              (bits & 0x7fffffffu) == 0 ? 0 : ((bits >> 13 & 0x3ffffu) - (112u << 10)) & 0x7fffu;
          data += raw(static_cast<std::uint16_t>(half | (bits >> 16 & 0x8000u)));
        }
      }
      to.type = type;
      to.data = data;
      wide.tensor(name).data = float_bytes(values);
      if (type != kTensorI8) continue;
      narrow.tensors.push_back(
          {name + ".scale", {scales.size()}, kTensorF32, float_bytes(scales), {}, {}});
    }
    CHECK(answer(load(narrow, {.exact = true})) == answer(load(wide)));
  }
}

TEST_CASE("Model: dtype is that of the first layer's matrices") {
  FileSpec spec = random_model({});
  spec.tensor("blk.0.attn_q.weight").type = kTensorBf16;
  spec.tensor("blk.0.attn_q.weight").data.resize(288);
  for (char& c : spec.tensor("blk.0.attn_q.weight").data) c = '\1';
  CHECK(load(spec)->config().dtype == std::string("bf16"));
}
