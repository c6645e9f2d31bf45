#include "runtime/bert/model.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "base/file.h"
#include "runtime/bert/engine.h"
#include "tests/base/temp_folder.h"
#include "tests/runtime/model_builder.h"

using namespace splitee;
using namespace splitee::runtime;
using splitee::testing::TempFolder;
using namespace splitee::runtime::testing;

namespace {

const splitee::kernels::Kernels& scalar() {
  return *splitee::kernels::find_target("scalar");
}

std::shared_ptr<const BertNetwork> load(const FileSpec& spec, const ModelOptions& options = {}) {
  const auto model = BertNetwork::from_bytes("M", as_bytes(build(spec)), scalar(), options);
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  return *model;
}

std::vector<float> answer(const std::shared_ptr<const BertNetwork>& model) {
  BertEngine engine(model);
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

TEST_CASE("BertNetwork: configuration, labels and optional keys") {
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
  CHECK(plain->info().labels == std::vector<std::string>{"c0", "c1", "c2"});
  CHECK(plain->info().alpha == 0);
  CHECK(config.dtype == std::string("f32"));
  CHECK(plain->path() == std::string("M"));
  CHECK(plain->info().temperatures[1] == 1.0f);

  spec.keys.push_back({"splitee.alpha", kF32, raw(0.75f)});
  spec.keys.push_back(
      {"splitee.exit_temperatures", kArray, raw_array(kF32, 2, raw(0.5f) + raw(2.0f))});
  spec.keys.push_back({"bert.attention.causal", kBool, std::string(1, '\0')});
  spec.keys.push_back({"general.name", kString, raw_string("anything")});
  const auto more = load(spec);
  CHECK(more->info().alpha == 0.75);
  CHECK(more->info().temperatures[0] == 0.5f);
  CHECK(more->info().temperatures[1] == 2.0f);
}

TEST_CASE("BertNetwork: the vocabulary is turned back to BERT's spelling") {
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
  const auto model = load(spec);
  const TokenTexts& vocab = model->tokenizer().vocab();
  std::vector<std::string> texts;
  for (std::size_t id = 0; id < vocab.size(); ++id) texts.emplace_back(vocab[id]);
  CHECK(texts == std::vector<std::string>{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "word", "##ing",
                                          "\xe2\x96\x81x", "##\xe2\x96\x81", "##a", "##[x", "##b"});
}

TEST_CASE("BertNetwork: lower-casing follows its key") {
  FileSpec spec = random_model({});
  const std::string word = "\xe2\x96\x81T5";
  std::string& tokens = spec.key("tokenizer.ggml.tokens").value;
  tokens.replace(tokens.find("t6") - 3, 5, word);
  spec.keys.push_back({"splitee.lower_case", kBool, std::string(1, '\0')});
  CHECK(load(spec)->tokenizer().encode("T5", nullptr, 9).ids == std::vector<std::int32_t>{2, 6, 3});
  spec.key("splitee.lower_case").value = "\1";
  CHECK(load(spec)->tokenizer().encode("T5", nullptr, 9).ids == std::vector<std::int32_t>{2, 1, 3});
}

TEST_CASE("BertNetwork: open() reads what from_bytes() reads, and the hash is the file's") {
  const TempFolder folder;
  const std::string path = folder.file("m.gguf");
  const std::string bytes = build(random_model({}));
  REQUIRE(write_file_atomically(path, as_bytes(bytes)).ok());
  const auto opened = BertNetwork::open(path, scalar());
  REQUIRE(opened.ok());
  const auto same = BertNetwork::from_bytes("M", as_bytes(bytes), scalar());
  CHECK((*opened)->hash() == (*same)->hash());
  CHECK((*opened)->path() == path);
  CHECK(answer(*opened) == answer(*same));
  CHECK(load(random_model({.seed = 2}))->hash() != (*opened)->hash());
  // The name is not needed any more.
  std::filesystem::remove(path);
  CHECK(answer(*opened) == answer(*same));
}

TEST_CASE("BertNetwork: bytes at any address") {
  const std::string bytes = build(random_model({}));
  const auto aligned = BertNetwork::from_bytes("M", as_bytes(bytes), scalar());
  const std::string shifted = "x" + bytes;
  const auto moved = BertNetwork::from_bytes("M", as_bytes(shifted).subspan(1), scalar());
  REQUIRE(aligned.ok());
  REQUIRE(moved.ok());
  CHECK(answer(*aligned) == answer(*moved));
}

TEST_CASE("BertNetwork: exact i8 with scales, bf16 and f16 equal the f32 file of the same values") {
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

// A product with input scales is the same product without them, its input and weights the other way
// round: in float32 within rounding, in int8 within the steps of both.
TEST_CASE("BertNetwork: input scales") {
  const ModelShape shape{.type = kTensorI8};
  const FileSpec plain = random_model(shape);
  FileSpec scaled = plain;
  const auto add = [&](const std::string& input, std::size_t size, float scale,
                       std::initializer_list<const char*> matrices) {
    std::vector<float> scales(size, scale);
    scaled.tensors.push_back(
        {input + ".input_scale", {size}, kTensorF32, float_bytes(scales), {}, {}});
    for (const char* matrix : matrices) {
      std::vector<float> rows = floats_of(scaled.tensor(std::string(matrix) + ".weight.scale"));
      for (float& row : rows) row /= scale;
      scaled.tensor(std::string(matrix) + ".weight.scale").data = float_bytes(rows);
    }
  };
  add("blk.0.attn_qkv", 12, 4.0f, {"blk.0.attn_q", "blk.0.attn_k", "blk.0.attn_v"});
  add("blk.0.attn_output", 12, 0.5f, {"blk.0.attn_output"});
  add("blk.1.ffn_up", 12, 0.25f, {"blk.1.ffn_up"});
  add("blk.1.ffn_down", 20, 8.0f, {"blk.1.ffn_down"});
  add("splitee.exit.1.pooler", 12, 2.0f, {"splitee.exit.1.pooler"});
  // Powers of two: every rounding is the same.
  CHECK(answer(load(scaled)) == answer(load(plain)));
  CHECK(answer(load(scaled, {.exact = true})) == answer(load(plain, {.exact = true})));
}

TEST_CASE("BertNetwork: dtype is that of the first layer's matrices") {
  FileSpec spec = random_model({});
  spec.tensor("blk.0.attn_q.weight").type = kTensorBf16;
  spec.tensor("blk.0.attn_q.weight").data.resize(288);
  for (char& c : spec.tensor("blk.0.attn_q.weight").data) c = '\1';
  CHECK(load(spec)->config().dtype == std::string("bf16"));
}
