#include "runtime/file/gguf.h"

#include <string>

#include <doctest/doctest.h>

#include "tests/runtime/model_builder.h"

using namespace splitee;
using namespace splitee::runtime;
using namespace splitee::runtime::testing;

namespace {

FileSpec small_file() {
  FileSpec spec;
  spec.keys = {{"a.u32", kU32, raw<std::uint32_t>(7)},
               {"a.u64", kU64, raw<std::uint64_t>(1)},
               {"a.f32", kF32, raw(0.5f)},
               {"a.bool", kBool, raw<std::uint8_t>(1)},
               {"a.string", kString, raw_string("text\n")},
               {"b.u32", kArray, raw_array(kU32, 2, raw<std::uint32_t>(3) + raw<std::uint32_t>(4))},
               {"b.i32", kArray, raw_array(kI32, 1, raw<std::int32_t>(-5))},
               {"b.f32", kArray, raw_array(kF32, 1, raw(1.5f))},
               {"b.string", kArray,
                raw_array(kString, 3, raw_string("x") + raw_string("") + raw_string("zz"))},
               {"b.empty", kArray, raw_array(kF32, 0, "")},
               {"c.u8", kU8, raw<std::uint8_t>(200)}};
  spec.tensors = {{"t", {2, 3}, kTensorF32, std::string(24, 'a'), {}, {}},
                  {"u", {5}, kTensorI8, "bcdef", {}, {}},
                  {"v", {1, 2, 1, 2}, kTensorF16, std::string(8, 'g'), {}, {}}};
  return spec;
}

}  // namespace

TEST_CASE("Gguf: typed values") {
  const std::string bytes = build(small_file());
  const auto file = Gguf::parse("F", as_bytes(bytes));
  REQUIRE_MESSAGE(file.ok(), file.status().message());
  CHECK(*file->get_u32("a.u32") == 7);
  CHECK(*file->get_u64("a.u64") == 1);
  CHECK(*file->get_f32("a.f32") == 0.5f);
  CHECK(*file->get_bool("a.bool"));
  CHECK(*file->get_string("a.string") == std::string("text\n"));
  CHECK(*file->get_u32_array("b.u32") == std::vector<std::uint32_t>{3, 4});
  CHECK(*file->get_i32_array("b.i32") == std::vector<std::int32_t>{-5});
  CHECK(*file->get_f32_array("b.f32") == std::vector<float>{1.5f});
  CHECK(*file->get_string_array("b.string") == std::vector<std::string_view>{"x", "", "zz"});
  CHECK(file->get_f32_array("b.empty")->empty());
  CHECK(file->entries().size() == 11);
  CHECK(file->entries()[1].key == "a.u64");
}

TEST_CASE("Gguf: a value of another type names the key and both types; none is guessed") {
  const std::string bytes = build(small_file());
  const auto file = Gguf::parse("F", as_bytes(bytes));
  REQUIRE(file.ok());
  const Status wrong = file->get_f32("a.u32").status();
  CHECK(wrong.code() == Code::kCorrupt);
  CHECK(wrong.message().find("key a.u32: expected f32, found u32") != std::string::npos);
  CHECK(wrong.message().starts_with("F: byte "));
  const Status array = file->get_u32_array("b.string").status();
  CHECK(array.message().find("expected array of u32, found array of string") != std::string::npos);
  CHECK(file->get_u32("b.u32").status().code() == Code::kCorrupt);
  CHECK(file->get_u32_array("a.u32").status().code() == Code::kCorrupt);
  CHECK(file->get_u64("a.u32").status().code() == Code::kCorrupt);
  CHECK(file->get_bool("c.u8").status().code() == Code::kCorrupt);
  const Status missing = file->get_string("none").status();
  CHECK(missing.code() == Code::kUnsupported);
  CHECK(missing.message() == std::string("F: key none is missing"));
}

TEST_CASE("Gguf: tensors with their shapes, outermost dimension first, and their bytes") {
  const std::string bytes = build(small_file());
  const auto file = Gguf::parse("F", as_bytes(bytes));
  REQUIRE(file.ok());
  REQUIRE(file->tensors().size() == 3);
  const GgufTensor* t = file->find_tensor("t");
  REQUIRE(t != nullptr);
  CHECK(t->rank == 2);
  CHECK(t->dims[0] == 2);
  CHECK(t->dims[1] == 3);
  CHECK(t->type == TensorType::kF32);
  CHECK(t->size_bytes == 24);
  const GgufTensor* u = file->find_tensor("u");
  REQUIRE(u != nullptr);
  CHECK(bytes.substr(u->offset, u->size_bytes) == "bcdef");
  CHECK(bytes.substr(file->find_tensor("v")->offset, 8) == std::string(8, 'g'));
  CHECK(shape_text(std::span(file->find_tensor("v")->dims)) == std::string("(1, 2, 1, 2)"));
  CHECK(file->find_tensor("w") == nullptr);
  CHECK(file->find_tensor("") == nullptr);
}

TEST_CASE("Gguf: another alignment, and a last tensor padded to it") {
  FileSpec spec = small_file();
  spec.keys.push_back({"general.alignment", kU32, raw<std::uint32_t>(128)});
  spec.alignment = 128;
  std::string bytes = build(spec);
  REQUIRE(Gguf::parse("F", as_bytes(bytes)).ok());
  bytes.resize(bytes.size() + 127 - (bytes.size() + 127) % 128, '\0');
  const auto file = Gguf::parse("F", as_bytes(bytes));
  REQUIRE_MESSAGE(file.ok(), file.status().message());
  CHECK(bytes[file->find_tensor("v")->offset] == 'g');
}

TEST_CASE("Gguf: from the first bytes of a file, which it asks for until it has the header") {
  const std::string bytes = build(small_file());
  const auto whole = Gguf::parse("F", as_bytes(bytes));
  REQUIRE(whole.ok());
  std::size_t given = 0, needed = 0, steps = 0;
  for (;; ++steps) {
    const auto file = Gguf::parse("F", as_bytes(bytes).first(given), bytes.size(), needed);
    if (file.ok()) {
      CHECK(file->find_tensor("v")->offset == whole->find_tensor("v")->offset);
      CHECK(*file->get_string("a.string") == std::string("text\n"));
      break;
    }
    CAPTURE(file.status().message());
    REQUIRE(needed > given);
    REQUIRE(needed <= bytes.size());
    given = needed;
  }
  CHECK(steps > 20);
  CHECK(needed == 0);
  CHECK(given <= whole->tensors().front().offset);
  // What is wrong is wrong at once, and what the file cannot hold is not asked for.
  std::string bad = bytes;
  bad[4] = 2;
  CHECK(Gguf::parse("F", as_bytes(bad).first(24), bad.size(), needed).status().code() ==
        Code::kUnsupported);
  CHECK(needed == 0);
  const auto cut = Gguf::parse("F", as_bytes(bytes).first(100), 120, needed);
  CHECK(cut.status().code() == Code::kCorrupt);
  CHECK(needed == 0);
}

TEST_CASE("value_text: numbers, quoted strings, arrays cut short") {
  const std::string bytes = build(small_file());
  const auto file = Gguf::parse("F", as_bytes(bytes));
  REQUIRE(file.ok());
  const auto text = [&](const char* key) { return value_text(*file->find(key), 2); };
  CHECK(text("a.u32") == std::string("7"));
  CHECK(text("a.f32") == std::string("0.5"));
  CHECK(text("a.bool") == std::string("true"));
  CHECK(text("a.string") == std::string("\"text\\x0a\""));
  CHECK(text("b.string") == std::string("[\"x\", \"\", ...] (3)"));
  CHECK(text("b.u32") == std::string("[3, 4] (2)"));
  CHECK(text("b.empty") == std::string("[] (0)"));
  CHECK(text("c.u8") == std::string("200"));
}
