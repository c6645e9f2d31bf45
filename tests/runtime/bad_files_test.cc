// Wrong model files: every one is refused with the right class of error and a message that names
// the file and what is wrong. The container's faults first, then those of what it holds.
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "runtime/bert/model.h"
#include "tests/runtime/model_builder.h"

using namespace splitee;
using namespace splitee::runtime;
using namespace splitee::runtime::testing;

namespace {

constexpr std::uint64_t kMax64 = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t k2To63 = std::uint64_t{1} << 63;
const float kNan = std::nanf("");
const float kInfinity = std::numeric_limits<float>::infinity();

Status open_bytes(const std::string& bytes) {
  return BertNetwork::from_bytes("M.gguf", as_bytes(bytes),
                                 *splitee::kernels::find_target("scalar"))
      .status();
}

std::string valid_file() {
  return build(random_model({}));
}

struct BadFile {
  const char* name;
  std::function<void(FileSpec&)> change;
  Code code;
  std::string word;  // of the message
};

void check_refused(const std::vector<BadFile>& files) {
  for (const BadFile& file : files) {
    CAPTURE(std::string(file.name));
    FileSpec spec = random_model({});
    file.change(spec);
    const Status status = open_bytes(build(spec));
    CAPTURE(status.message());
    CHECK(static_cast<int>(status.code()) == static_cast<int>(file.code));
    CHECK(status.message().starts_with("M.gguf: "));
    CHECK(status.message().find(file.word) != std::string::npos);
  }
}

// Changes to a key and to a tensor, as mutations.
auto set_key(const char* key, std::string value) {
  return [=](FileSpec& f) { f.key(key).value = value; };
}
auto set_u32(const char* key, std::uint32_t value) {
  return set_key(key, raw(value));
}
auto set_type(const char* key, std::uint32_t type) {
  return [=](FileSpec& f) { f.key(key).type = type; };
}
auto add_key(const char* key, std::uint32_t type, std::string value) {
  return [=](FileSpec& f) { f.keys.push_back({key, type, value}); };
}
auto drop_key(const char* key) {
  return [=](FileSpec& f) { f.erase_key(key); };
}
auto set_dims(std::vector<std::uint64_t> dims) {
  return [=](FileSpec& f) { f.tensors.back().dims = dims; };
}
auto set_float(const char* tensor, std::size_t index, float value) {
  return [=](FileSpec& f) { f.tensor(tensor).data.replace(4 * index, 4, raw(value)); };
}
std::string exit_list(std::vector<std::uint32_t> layers) {
  std::string bytes;
  for (const std::uint32_t layer : layers) bytes += raw(layer);
  return raw_array(kU32, layers.size(), bytes);
}
std::string float_list(const std::vector<float>& values) {
  return raw_array(kF32, values.size(), float_bytes(values));
}
std::string label_list(const std::vector<std::string>& labels) {
  std::string bytes;
  for (const std::string& label : labels) bytes += raw_string(label);
  return raw_array(kString, labels.size(), bytes);
}

}  // namespace

TEST_CASE("bad files: the base of all of them is right") {
  const Status status = open_bytes(valid_file());
  CHECK_MESSAGE(status.ok(), status.message());
}

TEST_CASE("bad files: header and counts") {
  const Code corrupt = Code::kCorrupt, unsupported = Code::kUnsupported;
  check_refused({
      {"F04 wrong magic", [](FileSpec& f) { f.magic = "GGML"; }, corrupt, "not a GGUF file"},
      {"F05 big-endian version", [](FileSpec& f) { f.version = 0x03000000; }, unsupported,
       "version"},
      {"F06 version 0", [](FileSpec& f) { f.version = 0; }, unsupported, "version 0"},
      {"F07 old version", [](FileSpec& f) { f.version = 2; }, unsupported, "version 2"},
      {"F08 next version", [](FileSpec& f) { f.version = 4; }, unsupported, "version 4"},
      {"F09 keys -1", [](FileSpec& f) { f.key_count = kMax64; }, corrupt, "key-values"},
      {"F09 tensors -1", [](FileSpec& f) { f.tensor_count = kMax64; }, corrupt, "tensors"},
      {"F10 keys 2^63", [](FileSpec& f) { f.key_count = k2To63; }, corrupt, "key-values"},
      {"F10 tensors 2^63", [](FileSpec& f) { f.tensor_count = k2To63; }, corrupt, "tensors"},
      {"F11 tensors wrap", [](FileSpec& f) { f.tensor_count = kMax64 / 33 + 1; }, corrupt,
       "tensors"},
      {"F11 keys wrap", [](FileSpec& f) { f.key_count = kMax64 / 13 + 1; }, corrupt, "key-values"},
      {"F12 keys over the file", [](FileSpec& f) { f.key_count = 99999; }, corrupt, "key-values"},
      {"F12 tensors over the file", [](FileSpec& f) { f.tensor_count = 99999; }, corrupt,
       "tensors"},
      {"F12 one key more", [](FileSpec& f) { f.key_count = f.keys.size() + 1; }, corrupt, ""},
      {"F12 one key less", [](FileSpec& f) { f.key_count = f.keys.size() - 1; }, corrupt, ""},
      {"F12 one tensor more", [](FileSpec& f) { f.tensor_count = f.tensors.size() + 1; }, corrupt,
       ""},
      {"F12 one tensor less", [](FileSpec& f) { f.tensor_count = f.tensors.size() - 1; }, corrupt,
       ""},
  });
}

TEST_CASE("bad files: strings, arrays and keys") {
  const Code corrupt = Code::kCorrupt, unsupported = Code::kUnsupported;
  const char* labels = "splitee.labels";
  const auto string_of_length = [&](std::uint64_t length) {
    return add_key("s", kString, raw(length) + "abc");
  };
  const auto array_of = [&](std::uint32_t type, std::uint64_t count) {
    return add_key("s", kArray, raw_array(type, count, std::string(64, '\0')));
  };
  check_refused({
      {"F13 string -1", string_of_length(kMax64), corrupt, "length"},
      {"F14 string 2^63", string_of_length(k2To63), corrupt, "length"},
      {"F15 string 1 GiB", string_of_length(1u << 30), corrupt, "length"},
      {"F16 string into the tensors", string_of_length(200), corrupt, ""},
      {"F17 NUL in a key",
       [](FileSpec& f) {
         f.keys.push_back({std::string("a\0", 2), kU32, raw(1u)});
       },
       corrupt, "not printable ASCII"},
      {"F17 NUL in a label", set_key(labels, label_list({"a", std::string("b\0c", 3), "d"})),
       corrupt, "entry 1"},
      {"F17 label of bad UTF-8", set_key(labels, label_list({"a", "b", "\xc3("})), corrupt,
       "entry 2"},
      {"F17 label of overlong UTF-8", set_key(labels, label_list({"\xc0\xaf", "b", "c"})), corrupt,
       "entry 0"},
      {"F17 label of overlong UTF-8, 3 bytes",
       set_key(labels, label_list({"\xe0\x80\xaf", "b", "c"})), corrupt, "entry 0"},
      {"F17 label of overlong UTF-8, 4 bytes",
       set_key(labels, label_list({"\xf0\x80\x80\xaf", "b", "c"})), corrupt, "entry 0"},
      {"F17 label with a surrogate", set_key(labels, label_list({"\xed\xa0\x80", "b", "c"})),
       corrupt, "entry 0"},
      {"F17 label cut off", set_key(labels, label_list({"\xe2\x96", "b", "c"})), corrupt,
       "entry 0"},
      {"F17 label beyond Unicode", set_key(labels, label_list({"\xf4\x90\x80\x80", "b", "c"})),
       corrupt, "entry 0"},
      {"empty label", set_key(labels, label_list({"a", "", "c"})), corrupt, "entry 1"},
      {"equal labels", set_key(labels, label_list({"a", "b", "a"})), corrupt, "equal"},
      {"F18 array of arrays", array_of(kArray, 1), unsupported, "array of arrays"},
      {"F20 array of 2^62 floats", array_of(kF32, k2To63 / 2), corrupt, "array elements"},
      {"F20 array of 2^63 bytes", array_of(kU8, k2To63), corrupt, "array elements"},
      {"F20 array of 2^61 u64", array_of(kU64, k2To63 / 4), corrupt, "array elements"},
      {"F20 array of 2^61 strings", array_of(kString, k2To63 / 4), corrupt, "array elements"},
      {"F20 array of strings over the file", array_of(kString, 5000), corrupt, ""},
      {"F21 unknown element type", array_of(13, 1), corrupt, "element type 13"},
      {"F21 unknown type", add_key("s", 13, ""), corrupt, "value type 13"},
      {"F21 type -1", add_key("s", kMax64 & 0xffffffffu, ""), corrupt, "value type"},
      {"F22 u32 as f32", set_type("bert.block_count", kF32), corrupt, "expected u32, found f32"},
      {"F22 f32 as u32", set_type("bert.attention.layer_norm_epsilon", kU32), corrupt,
       "expected f32, found u32"},
      {"F22 exits as f32", set_key("splitee.exit_layers", float_list({1, 2})), corrupt,
       "expected array of u32"},
      {"F22 bool of 2", add_key("splitee.lower_case", kBool, "\2"), corrupt, "neither 0 nor 1"},
      {"F22 lower case as u8", add_key("splitee.lower_case", kU8, "\1"), corrupt, "expected bool"},
      {"F23 duplicate key", add_key("bert.block_count", kU32, raw(2u)), corrupt, "occurs twice"},
      {"F23 duplicate unknown key",
       [](FileSpec& f) {
         f.keys.insert(f.keys.begin(), {"x", kU32, raw(1u)});
         f.keys.push_back({"x", kU32, raw(1u)});
       },
       corrupt, "key x occurs twice"},
      {"F24 empty key", add_key("", kU32, raw(2u)), corrupt, "key has 0 bytes"},
      {"F24 long key",
       [](FileSpec& f) {
         f.keys.push_back({std::string(257, 'k'), kU32, raw(1u)});
       },
       corrupt, "key has 257 bytes"},
  });
}

TEST_CASE("bad files: alignment") {
  const Code corrupt = Code::kCorrupt;
  const char* key = "general.alignment";
  check_refused({
      {"F26 alignment 0", set_u32(key, 0), corrupt, key},
      {"F27 alignment 13", set_u32(key, 13), corrupt, key},
      {"F28 alignment 1", set_u32(key, 1), corrupt, key},
      {"F28 alignment 16", set_u32(key, 16), corrupt, key},
      {"F28 alignment 48", set_u32(key, 48), corrupt, key},
      {"F29 alignment 2^30", set_u32(key, 1u << 30), corrupt, key},
      {"F30 alignment 2^31", set_u32(key, 1u << 31), corrupt, key},
      {"F30 alignment 2^17", set_u32(key, 1u << 17), corrupt, key},
      {"F31 alignment of another type", set_type(key, kI32), corrupt, "expected u32"},
      {"alignment not kept", set_u32(key, 64), corrupt, "tensor"},
  });
}

TEST_CASE("bad files: tensor infos") {
  const Code corrupt = Code::kCorrupt, unsupported = Code::kUnsupported;
  const auto set_rank = [](std::uint32_t rank) {
    return [=](FileSpec& f) { f.tensors.back().rank = rank; };
  };
  const auto set_tensor_type = [](std::uint32_t type) {
    return [=](FileSpec& f) { f.tensors.back().type = type; };
  };
  const auto set_name = [](std::string name) {
    return [=](FileSpec& f) { f.tensors.back().name = name; };
  };
  check_refused({
      {"F25 duplicate tensor", set_name("blk.0.attn_q.bias"), corrupt, "occurs twice"},
      {"empty tensor name", set_name(""), corrupt, "tensor name has 0 bytes"},
      {"tensor name of 65 bytes", set_name(std::string(65, 't')), corrupt, "65 bytes"},
      {"tensor name with a newline", set_name("a\nb"), corrupt, "not printable ASCII"},
      {"F32 no dimension", set_rank(0), corrupt, "0 dimensions"},
      {"F33 five dimensions", set_rank(5), corrupt, "5 dimensions"},
      {"F34 2^32-1 dimensions", set_rank(0xffffffffu), corrupt, "dimensions"},
      {"F35 dimension -1", set_dims({kMax64}), corrupt, "dimension 18446744073709551615"},
      {"F36 dimension 0", set_dims({0}), corrupt, "dimension 0"},
      {"F36 inner dimension 0", set_dims({3, 0}), corrupt, "dimension 0"},
      {"F37 dimensions of 1", set_dims({1, 1, 1, 3}), corrupt, "expected shape (3), found"},
      {"F38 product wraps to 0", set_dims({k2To63, 2}), corrupt, "dimension"},
      {"F39 product wraps to 1", set_dims({kMax64, kMax64}), corrupt, "dimension"},
      {"F40 product wraps to 4", set_dims({4194305, 4194305, 211106198978564u}), corrupt,
       "dimension"},
      {"F41 product within the file's size each", set_dims({5000, 5000, 5000, 5000}), corrupt,
       "beyond the end"},
      {"F38 product of sizes that are each within the file wraps to 0",
       [](FileSpec& f) {
         f.tensors.insert(f.tensors.begin(),
                          {"t", {65536}, kTensorI8, std::string(65536, 'x'), {}, {}});
         f.tensors.back().dims = {65536, 65536, 65536, 65536};
       },
       corrupt, "beyond the end"},
      {"F42 padding wraps", set_dims({kMax64 / 4}), corrupt, "dimension"},
      {"F43 sizes of 2^63 - 64", set_dims({0x7FFFFFFFFFFFFFC0u}), corrupt, "dimension"},
      {"F44 unknown type", set_tensor_type(39), unsupported, "type 39"},
      {"F44 f64", set_tensor_type(28), unsupported, "type 28"},
      {"F45 type -1", set_tensor_type(0xffffffffu), unsupported, "type 4294967295"},
      {"F45 type INT_MAX", set_tensor_type(0x7fffffffu), unsupported, "type 2147483647"},
      {"F46 quantised type", set_tensor_type(8), unsupported, "type 8"},
  });
}

TEST_CASE("bad files: places of tensors") {
  const Code corrupt = Code::kCorrupt;
  const auto move_last = [](std::uint64_t offset) {
    return [=](FileSpec& f) { f.tensors.back().offset = offset; };
  };
  check_refused({
      {"F47 offset -1", move_last(kMax64), corrupt, "data offset"},
      {"F48 offset past the end", move_last(1 << 20), corrupt, "data offset"},
      {"F49 offset + size wraps", move_last(kMax64 - 31), corrupt, "data offset"},
      {"F50 overlap", move_last(0), corrupt, "data offset 0"},
      {"F51 hole",
       [](FileSpec& f) {
         f.tensors.back().data += std::string(64, '\0');
         f.tensors.push_back({"t", {1}, kTensorF32, raw(1.0f), {}, {}});
       },
       corrupt, "tensor t: data offset"},
      {"F52 out of order",
       [](FileSpec& f) {
         f.tensors[3].offset = 1280;
         f.tensors[4].offset = 1216;
       },
       corrupt, "data offset"},
      {"F53 unaligned", [](FileSpec& f) { f.tensors[1].offset = 4; }, corrupt, "data offset 4"},
      {"F53 shape larger than its bytes", set_dims({1000, 1000}), corrupt, "beyond the end"},
      {"F54 one byte short", [](FileSpec& f) { f.tensors.back().data.pop_back(); }, corrupt,
       "beyond the end"},
      {"F55 one byte too many", [](FileSpec& f) { f.trailing = "x"; }, corrupt, "goes on"},
      {"F55 much too many", [](FileSpec& f) { f.trailing = std::string(64, '\0'); }, corrupt,
       "goes on"},
  });
}

TEST_CASE("bad files: keys of the model") {
  const Code corrupt = Code::kCorrupt, unsupported = Code::kUnsupported;
  const char* exits = "splitee.exit_layers";
  const auto epsilon = [](float value) {
    return set_key("bert.attention.layer_norm_epsilon", raw(value));
  };
  const auto temperatures = [](const std::vector<float>& values) {
    return add_key("splitee.exit_temperatures", kArray, float_list(values));
  };
  const auto alpha = [](float value) { return add_key("splitee.alpha", kF32, raw(value)); };
  const auto added_tokens = [](const std::vector<std::uint32_t>& ids,
                               const std::vector<std::uint32_t>& flags) {
    return [=](FileSpec& f) {
      f.keys.push_back({"splitee.added_tokens", kArray, exit_list(ids)});
      f.keys.push_back({"splitee.added_token_flags", kArray, exit_list(flags)});
    };
  };
  check_refused({
      {"no hash", drop_key("splitee.content_hash"), unsupported, "splitee.content_hash is missing"},
      {"hash of another type", set_type("splitee.content_hash", 11), corrupt, "expected u64"},
      {"no architecture", drop_key("general.architecture"), unsupported, "general.architecture"},
      {"other architecture", set_key("general.architecture", raw_string("llama")), unsupported,
       "general.architecture"},
      {"other tokenizer", set_key("tokenizer.ggml.model", raw_string("gpt2")), unsupported,
       "tokenizer.ggml.model"},
      {"causal", add_key("bert.attention.causal", kBool, "\1"), unsupported, "causal"},
      {"pooling 0", add_key("bert.pooling_type", kU32, raw<std::uint32_t>(0)), unsupported,
       "pooling"},
      {"F58 no layers", set_u32("bert.block_count", 0), corrupt, "bert.block_count is 0"},
      {"F58 33 layers", set_u32("bert.block_count", 33), corrupt, "not with the last layer 33"},
      {"F58 2^31 layers", set_u32("bert.block_count", 1u << 31), corrupt, "bert.block_count"},
      {"F58 1024 layers",
       [=](FileSpec& f) {
         f.key("bert.block_count").value = raw(1024u);
         f.key(exits).value = exit_list({1, 1024});
       },
       corrupt, "tensor blk.2.attn_q.weight is missing"},
      {"F59 heads do not divide", set_u32("bert.attention.head_count", 5), corrupt, "5 heads"},
      {"F66 no heads", set_u32("bert.attention.head_count", 0), corrupt, "head_count is 0"},
      {"F67 no hidden", set_u32("bert.embedding_length", 0), corrupt, "embedding_length is 0"},
      {"F67 no ffn", set_u32("bert.feed_forward_length", 0), corrupt, "feed_forward_length is 0"},
      {"F67 no token types", set_u32("tokenizer.ggml.token_type_count", 0), corrupt,
       "token_type_count is 0"},
      {"F67 context of 2", set_u32("bert.context_length", 2), corrupt, "context_length is 2"},
      {"F71 hidden 2^31", set_u32("bert.embedding_length", 1u << 31), corrupt, "embedding_length"},
      {"context other than the table", set_u32("bert.context_length", 10), corrupt,
       "position_embd.weight: expected shape (10, 12), found (9, 12)"},
      {"ffn other than the tensors", set_u32("bert.feed_forward_length", 21), corrupt,
       "blk.0.ffn_up.weight: expected shape (21, 12), found (20, 12)"},
      {"F60 vocabulary inflated",
       [](FileSpec& f) {
         f.tensor("token_embd.weight").dims = {12, 12};
         f.tensor("token_embd.weight").data += std::string(48, '\0');
       },
       corrupt, "token_embd.weight: expected shape (11, 12), found (12, 12)"},
      {"token kinds of another length",
       set_key("tokenizer.ggml.token_type", raw_array(kI32, 1, raw<std::int32_t>(1))), corrupt,
       "1 entries for 11 tokens"},
      {"unknown token kind",
       [](FileSpec& f) { f.key("tokenizer.ggml.token_type").value.replace(12, 4, raw(6)); },
       corrupt, "entry 0 is 6"},
      {"no tokens", drop_key("tokenizer.ggml.tokens"), unsupported, "tokens is missing"},
      {"F61 no exits", set_key(exits, exit_list({})), corrupt, "is empty"},
      {"F61 exits unsorted", set_key(exits, exit_list({2, 1})), corrupt, "not ascending"},
      {"F61 exit twice", set_key(exits, exit_list({1, 1, 2})), corrupt, "not ascending"},
      {"F61 exit 0", set_key(exits, exit_list({0, 2})), corrupt, "not ascending from 1"},
      {"F61 exit beyond the layers", set_key(exits, exit_list({1, 3})), corrupt, "ends with 3"},
      {"F61 no exit on the last layer", set_key(exits, exit_list({1})), corrupt, "ends with 1"},
      {"F70 exit -1", set_key(exits, exit_list({2, 0xffffffffu})), corrupt, "ends with 4294967295"},
      {"one label", set_key("splitee.labels", label_list({"a"})), corrupt, "1 entries"},
      {"three labels for a value", add_key("splitee.output", kString, raw_string("value")), corrupt,
       "3 entries, not 1 to 1"},
      {"no label to be scored",
       [](FileSpec& f) {
         f.keys.push_back({"splitee.output", kString, raw_string("sigmoid")});
         f.key("splitee.labels").value = label_list({});
       },
       corrupt, "0 entries"},
      {"unknown output", add_key("splitee.output", kString, raw_string("argmax")), unsupported,
       "splitee.output is not one of the words known: softmax, sigmoid, value"},
      {"unknown activation", add_key("splitee.activation", kString, raw_string("mish")),
       unsupported, "splitee.activation"},
      {"activation of another type", add_key("splitee.activation", kBool, "\1"), corrupt,
       "splitee.activation"},
      {"unknown pooler", add_key("splitee.pooler_activation", kString, raw_string("silu")),
       unsupported, "splitee.pooler_activation"},
      {"accents of another type", add_key("splitee.strip_accents", kU32, raw(1u)), corrupt,
       "splitee.strip_accents"},
      {"added tokens without flags", add_key("splitee.added_tokens", kArray, exit_list({5})),
       unsupported, "splitee.added_token_flags is missing"},
      {"flags without added tokens", add_key("splitee.added_token_flags", kArray, exit_list({5})),
       unsupported, "splitee.added_tokens is missing"},
      {"flags of another length", added_tokens({5, 6}, {0}), corrupt, "1 entries for 2"},
      {"unknown flag", added_tokens({5}, {8}), corrupt, "entry 0 is out of range"},
      {"added token 2^31", added_tokens({1u << 31}, {0}), corrupt, "entry 0 is out of range"},
      {"added token beyond the vocabulary", added_tokens({11}, {0}), corrupt,
       "token 11 is no token"},
      {"added token twice", added_tokens({6, 6}, {0, 0}), corrupt, "is looked for as token 6"},
      {"no labels", drop_key("splitee.labels"), unsupported, "splitee.labels is missing"},
      {"F62 labels other than the heads", set_key("splitee.labels", label_list({"a", "b"})),
       corrupt, "splitee.exit.1.classifier.weight: expected shape (2, 12), found (3, 12)"},
      {"F69 epsilon 0", epsilon(0), corrupt, "epsilon"},
      {"epsilon negative", epsilon(-1e-12f), corrupt, "epsilon"},
      {"epsilon 1e-21", epsilon(1e-21f), corrupt, "epsilon"},
      {"epsilon 1.1", epsilon(1.1f), corrupt, "epsilon"},
      {"epsilon NaN", epsilon(kNan), corrupt, "epsilon"},
      {"epsilon infinite", epsilon(kInfinity), corrupt, "epsilon"},
      {"one temperature of two", temperatures({1}), corrupt, "1 entries for 2 exits"},
      {"temperature 0", temperatures({1, 0}), corrupt, "not within [0.001, 1000]"},
      {"temperature 9e-4", temperatures({1, 9e-4f}), corrupt, "not within [0.001, 1000]"},
      {"temperature 1001", temperatures({1001, 1}), corrupt, "not within [0.001, 1000]"},
      {"temperature NaN", temperatures({1, kNan}), corrupt, "not within [0.001, 1000]"},
      {"temperature infinite", temperatures({kInfinity, 1}), corrupt, "not within [0.001, 1000]"},
      {"alpha 0", alpha(0), corrupt, "splitee.alpha"},
      {"alpha over 1", alpha(1.01f), corrupt, "splitee.alpha"},
      {"alpha NaN", alpha(kNan), corrupt, "splitee.alpha"},
  });
}

TEST_CASE("bad files: input scales") {
  const auto scales = [](std::size_t size, float value) {
    return [=](FileSpec& f) {
      f = random_model({.type = kTensorI8});
      std::vector<float> values(size, 1);
      values.back() = value;
      f.tensors.push_back(
          {"blk.0.ffn_down.input_scale", {size}, kTensorF32, float_bytes(values), {}, {}});
    };
  };
  const char* range = "ffn_down.input_scale holds a value that is not from 1e-4 to 1e4";
  check_refused({
      {"too few", scales(19, 1), Code::kCorrupt, "expected shape (20), found (19)"},
      {"zero", scales(20, 0), Code::kCorrupt, range},
      {"negative", scales(20, -1), Code::kCorrupt, range},
      {"too small", scales(20, 0.9e-4f), Code::kCorrupt, range},
      {"too large", scales(20, 1.1e4f), Code::kCorrupt, range},
      {"NaN", scales(20, kNan), Code::kCorrupt, "ffn_down.input_scale holds a value that is not"},
  });
}

TEST_CASE("bad files: tensors of the model") {
  const Code corrupt = Code::kCorrupt, unsupported = Code::kUnsupported;
  const char* query = "blk.0.attn_q.weight";
  const auto drop = [](const char* name) { return [=](FileSpec& f) { f.erase_tensor(name); }; };
  const auto make_i8 = [=](std::uint64_t scales, float scale) {
    return [=](FileSpec& f) {
      f.tensor(query).type = kTensorI8;
      f.tensor(query).data.assign(144, '\5');
      const std::string data = float_bytes(std::vector<float>(scales, scale));
      f.tensors.push_back({"blk.0.attn_q.weight.scale", {scales}, kTensorF32, data, {}, {}});
    };
  };
  check_refused({
      {"no embeddings", drop("token_embd.weight"), corrupt, "token_embd.weight is missing"},
      {"no bias", drop("blk.1.ffn_up.bias"), corrupt, "blk.1.ffn_up.bias is missing"},
      {"no exit head", drop("splitee.exit.1.pooler.weight"), corrupt,
       "splitee.exit.1.pooler.weight is missing"},
      {"one tensor too many",
       [](FileSpec& f) {
         f.tensors.push_back({"x", {1}, kTensorF32, raw(1.0f), {}, {}});
       },
       unsupported, "tensor x has no place"},
      {"F62 classifier transposed",
       [](FileSpec& f) {
         f.tensor("splitee.exit.2.classifier.weight").dims = {12, 3};
       },
       corrupt, "expected shape (3, 12), found (12, 3)"},
      {"F62 exits with different classes",
       [](FileSpec& f) {
         f.tensor("splitee.exit.2.classifier.weight").dims = {2, 12};
         f.tensor("splitee.exit.2.classifier.weight").data.resize(96);
       },
       corrupt, "splitee.exit.2.classifier.weight: expected shape (3, 12), found (2, 12)"},
      {"bias as a matrix",
       [](FileSpec& f) {
         f.tensor("blk.0.attn_q.bias").dims = {1, 12};
       },
       corrupt, "expected shape (12), found (1, 12)"},
      {"F63 NaN in a matrix", set_float(query, 143, kNan), corrupt, "attn_q.weight holds a value"},
      {"F63 infinity in a matrix", set_float("blk.1.ffn_down.weight", 0, -kInfinity), corrupt,
       "blk.1.ffn_down.weight holds a value"},
      {"F63 NaN in the embeddings", set_float("token_embd.weight", 50, kNan), corrupt,
       "token_embd.weight holds a value"},
      {"F63 infinity in a bias", set_float("blk.0.attn_v.bias", 11, kInfinity), corrupt,
       "attn_v.bias holds a value"},
      {"F63 NaN in a norm", set_float("token_embd_norm.weight", 3, kNan), corrupt,
       "token_embd_norm.weight holds a value"},
      {"F65 NaN in an exit head", set_float("splitee.exit.1.classifier.weight", 7, kNan), corrupt,
       "splitee.exit.1.classifier.weight holds a value"},
      {"i8 without scales",
       [=](FileSpec& f) {
         f.tensor(query).type = kTensorI8;
         f.tensor(query).data.resize(144);
       },
       corrupt, "blk.0.attn_q.weight.scale is missing"},
      {"i8 with too few scales", make_i8(11, 1), corrupt, "expected shape (12), found (11)"},
      {"i8 with a NaN scale", make_i8(12, kNan), corrupt, "scale holds a value"},
      {"i8 that overflows", make_i8(12, 3e38f), corrupt, "attn_q.weight holds a value"},
      {"scales of what is not i8",
       [](FileSpec& f) {
         const std::string data = float_bytes(std::vector<float>(12, 1));
         f.tensors.push_back({"blk.0.attn_q.weight.scale", {12}, kTensorF32, data, {}, {}});
       },
       unsupported, "has no place"},
      {"input scales of what is not i8",
       [](FileSpec& f) {
         const std::string data = float_bytes(std::vector<float>(12, 1));
         f.tensors.push_back({"blk.0.attn_qkv.input_scale", {12}, kTensorF32, data, {}, {}});
       },
       unsupported, "attn_qkv.input_scale goes with matrices of i8"},
      {"input scales of one matrix of three",
       [=](FileSpec& f) {
         make_i8(12, 1)(f);
         const std::string data = float_bytes(std::vector<float>(12, 1));
         f.tensors.push_back({"blk.0.attn_q.input_scale", {12}, kTensorF32, data, {}, {}});
       },
       unsupported, "attn_q.input_scale has no place"},
      {"i8 bias",
       [](FileSpec& f) {
         f.tensor("blk.0.attn_q.bias").type = kTensorI8;
         f.tensor("blk.0.attn_q.bias").data.resize(12);
       },
       unsupported, "is a vector of i8"},
  });
}

TEST_CASE("bad files: odd weights that are finite are no fault") {
  FileSpec spec = random_model({});
  spec.tensor("token_embd_norm.weight").data.assign(48, '\0');         // F64
  spec.tensor("blk.0.attn_q.weight").data.replace(0, 4, raw(1e-42f));  // denormal
  spec.tensor("blk.0.attn_k.weight").data.replace(0, 4, raw(-0.0f));
  CHECK(open_bytes(build(spec)).ok());
}
