// Models that have sums of their blocks (splitee.block_sums): opened by what is read of them, and
// nothing of them is used that was not checked. Every kind of network.
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "base/file.h"
#include "runtime/file/gguf.h"
#include "runtime/file/model_bytes.h"
#include "runtime/loader/loader.h"
#include "tests/base/temp_folder.h"
#include "tests/runtime/model_builder.h"

using namespace splitee;
using namespace splitee::runtime;
using splitee::testing::TempFolder;
using splitee::testing::write_plain;
using namespace splitee::runtime::testing;

namespace {

constexpr std::size_t kBlock = ModelBytes::kBlock;
constexpr const char* kSums = "splitee.block_sums";

// Layers of several blocks each.
ModelShape large(std::uint32_t type = kTensorF32) {
  return {.layers = 3,
          .hidden = 192,
          .heads = 2,
          .ffn = 256,
          .positions = 8,
          .classes = 2,
          .vocab = 700,
          .exit_layers = {1, 2, 3},
          .seed = 9,
          .type = type};
}

std::string with_sums(FileSpec spec, std::size_t more = 0) {
  add_block_sums(spec, more);
  return build(spec);
}

const splitee::kernels::Kernels& best() {
  return *splitee::kernels::find_target("");
}

Result<std::shared_ptr<const Network>> open_bytes(const std::string& bytes) {
  return network_from_bytes("M.gguf", as_bytes(bytes), best());
}

// What all exits say of an input of `length` units, in their order; the error where one fails.
Result<std::vector<float>> answers(const Network& network, std::size_t length = 3) {
  const auto engine = network.make_engine();
  const Prepared input = network.random_input(length, 5);
  if (Status s = engine->begin(input.view()); !s.ok()) return s;
  std::vector<float> all;
  for (std::size_t exit = 0; exit < network.info().exits(); ++exit) {
    if (Status s = engine->run_to(network.info().exit_layers[exit]); !s.ok()) return s;
    const auto found = engine->evaluate_exit(exit);
    all.insert(all.end(), found.begin(), found.end());
  }
  return all;
}

bool mentions(const Status& status, const std::string& text) {
  return status.message().find(text) != std::string::npos;
}

// A file with sums on disk, which can be changed.
struct OnDisk {
  explicit OnDisk(std::string content = with_sums(random_model(large())))
      : bytes(std::move(content)) {
    write_plain(path, bytes);
    const auto network = open_bytes(bytes);
    REQUIRE_MESSAGE(network.ok(), network.status().message());
    expected = *answers(**network);
  }
  Result<std::shared_ptr<const Network>> open(const ModelOptions& options = {.preload = 1}) const {
    return open_network(path, best(), options);
  }
  std::size_t place(const std::string& tensor) const {
    return Gguf::parse("M", as_bytes(bytes))->find_tensor(tensor)->offset;
  }
  void overwrite(std::size_t offset, const std::string& with) const {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(offset));
    file << with;
  }
  void damage(std::size_t offset) const {
    overwrite(offset, std::string(1, static_cast<char>(bytes[offset] ^ 4)));
  }
  void mend() const { overwrite(0, bytes); }

  TempFolder folder;
  std::string path = folder.file("m.gguf");
  std::string bytes;
  std::vector<float> expected;
};

void check_refused(const OnDisk& disk, const Status& status) {
  CAPTURE(status.message());
  CHECK(status.code() == Code::kCorrupt);
  CHECK(status.message().starts_with(disk.path + ": the block at byte "));
  CHECK(mentions(status, "was damaged or changed"));
}

}  // namespace

TEST_CASE("block sums: the same bits with and without, for every network, type and target") {
  std::vector<FileSpec> specs;
  for (const std::uint32_t type : {kTensorF32, kTensorBf16, kTensorI8}) {
    specs.push_back(random_model(large(type)));
#ifdef SPLITEE_NETWORK_NUMBERS
    specs.push_back(random_numbers({.features = 40, .widths = {300, 300, 300}, .type = type}));
#endif
#ifdef SPLITEE_NETWORK_IMAGES
    specs.push_back(random_conv({.channels = {64, 96}, .type = type}));
#endif
  }
  for (FileSpec& spec : specs) {
    const TempFolder folder;
    const std::string plain = folder.file("plain"), summed = folder.file("summed");
    write_plain(plain, build(spec));
    write_plain(summed, with_sums(spec));
    for (const splitee::kernels::Kernels* kernels : splitee::kernels::compiled_targets()) {
      if (!splitee::kernels::supported(*kernels)) continue;
      const auto without = open_network(plain, *kernels, {.preload = kAllLayers});
      REQUIRE(without.ok());
      const std::vector<float> expected = *answers(**without, 1);
      for (const std::size_t preload : {std::size_t{0}, std::size_t{1}, kAllLayers}) {
        const auto with = open_network(summed, *kernels, {.preload = preload});
        REQUIRE_MESSAGE(with.ok(), with.status().message());
        CHECK((*with)->hash() != (*without)->hash());
        CHECK(*answers(**with, 1) == expected);
      }
    }
  }
}

TEST_CASE("block sums: damage is refused when it is met, each time, and what is right answers") {
  const OnDisk disk;
  const std::size_t places[] = {
      disk.place("blk.2.ffn_up.weight") + kBlock, disk.place("blk.2.attn_q.weight") + kBlock,
      disk.place("splitee.exit.3.pooler.weight") + kBlock, disk.bytes.size() - 1};
  for (const std::size_t place : places) {
    CAPTURE(place);
    disk.damage(place);
    const auto network = disk.open();
    REQUIRE_MESSAGE(network.ok(), network.status().message());
    const auto engine = (*network)->make_engine();
    REQUIRE(engine->begin((*network)->random_input(3, 5).view()).ok());
    REQUIRE(engine->run_to(2).ok());
    CHECK(engine->evaluate_exit(1)[0] == disk.expected[2]);
    for (int i = 0; i < 3; ++i) check_refused(disk, engine->run_to(3));
    check_refused(disk, (*network)->load_all());
    disk.mend();
    REQUIRE(engine->run_to(3).ok());
    CHECK(engine->evaluate_exit(2)[0] == disk.expected[4]);
  }
}

TEST_CASE("block sums: a word that was damaged is refused when it is met") {
  const OnDisk disk;
  disk.damage(disk.place("token_embd.weight") + 300 * 192 * sizeof(float));
  const auto network = disk.open();
  REQUIRE(network.ok());
  const Result<std::vector<float>> found = answers(**network);
  REQUIRE_MESSAGE(found.ok(), found.status().message());
  CHECK(*found == disk.expected);
  const auto engine = (*network)->make_engine();
  Input input;
  input.bytes = "t300";
  const auto damaged = (*network)->prepare(input);
  REQUIRE(damaged.ok());
  check_refused(disk, engine->begin(damaged->view()));
  check_refused(disk, engine->begin(damaged->view()));
  check_refused(disk, (*network)->load_all());
  disk.mend();
  CHECK(engine->begin(damaged->view()).ok());
}

TEST_CASE("block sums: damage is found at once by who reads everything, or asks for it") {
  const OnDisk disk;
  const std::size_t start = disk.place("token_embd.weight");
  std::mt19937 random(5);
  for (int i = 0; i < 40; ++i) {
    const std::size_t at = start + random() % (disk.bytes.size() - start);
    CAPTURE(at);
    disk.damage(at);
    const Status whole = disk.open({.preload = 1, .check_whole = true}).status();
    CHECK(whole.code() == Code::kCorrupt);
    CHECK(mentions(whole, "was damaged or changed"));
    std::string bad = disk.bytes;
    bad[at] = static_cast<char>(bad[at] ^ 4);
    const Status in_memory = open_bytes(bad).status();
    CHECK(in_memory.code() == Code::kCorrupt);
    const auto lazy = disk.open();
    CHECK_FALSE((lazy.ok() ? (*lazy)->load_all() : lazy.status()).ok());
    disk.mend();
  }
  CHECK(disk.open({.preload = 1, .check_whole = true}).ok());
}

TEST_CASE("block sums: every flipped bit of the header, sums included, is found by opening") {
  std::string file = with_sums(random_model({.vocab = 2000, .seed = 4}));
  const TempFolder folder;
  const std::string path = folder.file("m.gguf");
  const std::size_t header = Gguf::parse("M", as_bytes(file))->tensors().front().offset;
  const std::size_t sums = file.find(kSums);
  REQUIRE(sums != std::string::npos);
  REQUIRE(open_bytes(file).ok());
  std::mt19937 random(6);
  for (std::size_t i = 0; i < 2000; ++i) {
    // The sums' bits, and others.
    const std::size_t bit = i < 600 ? 8 * sums + i : random() % (8 * header);
    file[bit / 8] = static_cast<char>(file[bit / 8] ^ (1 << bit % 8));
    write_plain(path, file);
    if (open_network(path, best()).ok()) FAIL("accepted with bit " << bit << " flipped");
    file[bit / 8] = static_cast<char>(file[bit / 8] ^ (1 << bit % 8));
  }
}

TEST_CASE("block sums: sums that are not those of the file's hash are refused at once") {
  const OnDisk disk;
  // A block and its sum changed together: the content hash is the old one.
  const std::size_t place = disk.place("blk.2.ffn_up.weight");
  FileSpec spec = random_model(large());
  spec.tensor("blk.2.ffn_up.weight").data.replace(0, 4, raw(0.25f));
  std::string other = with_sums(spec);
  const std::size_t hash = other.find("splitee.content_hash") + 24;
  other.replace(hash, 8, disk.bytes.substr(hash, 8));
  REQUIRE(other.size() == disk.bytes.size());
  REQUIRE(other.substr(place, 4) == raw(0.25f));
  write_plain(disk.path, other);
  const Status status = disk.open().status();
  CHECK(status.code() == Code::kCorrupt);
  CHECK(mentions(status, "the content's hash is"));
  // The tensors of one file behind the header of another of the same size.
  const std::size_t start = disk.place("token_embd.weight");
  write_plain(disk.path, disk.bytes.substr(0, start) + other.substr(start));
  const auto mixed = disk.open();
  REQUIRE(mixed.ok());
  check_refused(disk, (*mixed)->load_all());
}

TEST_CASE("block sums: their number, type and last entry are checked") {
  const TempFolder folder;
  FileSpec spec = random_model(large());
  add_block_sums(spec);
  const std::string right = spec.key(kSums).value;
  const auto refused = [&](const std::string& value, Code code, const std::string& text) {
    spec.key(kSums).value = value;
    const Status status = open_bytes(build(spec)).status();
    CAPTURE(status.message());
    CHECK(status.code() == code);
    CHECK(mentions(status, text));
  };
  const std::size_t entries = (right.size() - 12) / 8;
  const auto zeros = [](std::size_t count) {
    return raw_array(kU64, count, std::string(8 * count, '\0'));
  };
  refused(zeros(0), Code::kCorrupt, "0 entries for ");
  refused(zeros(entries + 2), Code::kCorrupt, " entries for ");
  refused(raw_array(kU32, 1, raw<std::uint32_t>(1)), Code::kCorrupt, kSums);
  refused(raw_array(kU64, entries + 1, std::string(8 * (entries + 1), '\1')), Code::kCorrupt,
          " entries for ");
}

TEST_CASE("block sums: wherever the tensor data begins within a block") {
  for (std::size_t bytes = 0; bytes < kBlock + 4096; bytes += 4096) {
    FileSpec spec = random_model(large());
    spec.keys.push_back({"a.note", kString, raw_string(std::string(bytes, 'x'))});
    const auto network = open_bytes(with_sums(spec));
    REQUIRE_MESSAGE(network.ok(), network.status().message());
  }
}

TEST_CASE("block sums: a value that is not finite is refused whenever it is met") {
  FileSpec spec = random_model(large());
  spec.tensor("blk.2.ffn_up.weight").data.replace(400, 4, raw(std::nanf("")));
  const TempFolder folder;
  const std::string path = folder.file("m.gguf");
  write_plain(path, with_sums(spec));
  const auto network = open_network(path, best(), {.preload = 1});
  REQUIRE(network.ok());
  const std::string message = "tensor blk.2.ffn_up.weight holds a value that is not finite";
  for (int i = 0; i < 3; ++i) {
    const Status status = answers(**network).status();
    CHECK(status.code() == Code::kCorrupt);
    CHECK(mentions(status, message));
  }
  CHECK(mentions(open_network(path, best(), {.preload = kAllLayers}).status(), message));
  CHECK(mentions(open_network(path, best(), {.check_whole = true}).status(), message));
}

TEST_CASE("block sums: replaced, cut off or overwritten in use") {
  const OnDisk disk;
  ModelShape other = large();
  other.seed = 10;
  const std::string changed = with_sums(random_model(other));
  REQUIRE(changed.size() == disk.bytes.size());
  const auto replaced = disk.open();
  REQUIRE(replaced.ok());
  REQUIRE(write_file_atomically(disk.path, as_bytes(changed)).ok());
  CHECK(*answers(**replaced) == disk.expected);

  // Another file, in place, of the same size: as if its time were the same too.
  disk.mend();
  const auto overwritten = disk.open();
  REQUIRE(overwritten.ok());
  disk.overwrite(0, changed);
  check_refused(disk, answers(**overwritten).status());
  const auto fresh = disk.open();
  REQUIRE(fresh.ok());
  CHECK(*answers(**fresh) != disk.expected);

  std::mt19937 random(23);
  for (int i = 0; i < 30; ++i) {
    write_plain(disk.path, disk.bytes);
    const auto network = disk.open();
    REQUIRE(network.ok());
    std::filesystem::resize_file(disk.path, random() % disk.bytes.size());
    const Result<std::vector<float>> found = answers(**network);
    if (found.ok()) {
      CHECK(*found == disk.expected);
    } else {
      CHECK(found.status().code() == Code::kIo);
      CHECK(mentions(found.status(), ": cut off at byte"));
    }
    CHECK_FALSE(disk.open().ok());
  }
}
