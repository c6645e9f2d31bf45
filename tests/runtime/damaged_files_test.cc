// BertNetwork files that were damaged, or that are built to cost time or memory: refused, each with
// a message that names the file, and never a crash.
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "runtime/bert/model.h"
#include "tests/base/temp_folder.h"
#include "tests/runtime/model_builder.h"

using namespace splitee;
using namespace splitee::runtime;
using splitee::testing::TempFolder;
using namespace splitee::runtime::testing;

namespace {

Status open_bytes(const std::string& bytes) {
  return BertNetwork::from_bytes("M.gguf", as_bytes(bytes),
                                 *splitee::kernels::find_target("scalar"))
      .status();
}

std::string valid_file() {
  return build(random_model({}));
}

}  // namespace

TEST_CASE(
    "damaged files: cut off at every byte of the header and at 200 random points of the data") {
  const std::string file = valid_file();
  const std::size_t header = file.find("splitee.exit.2.classifier.bias") + 100;
  std::vector<std::size_t> points(header);
  for (std::size_t i = 0; i < header; ++i) points[i] = i;
  std::mt19937 random(57);
  for (int i = 0; i < 200; ++i) points.push_back(header + random() % (file.size() - header));
  for (const std::size_t size : points) {
    const Status status = open_bytes(file.substr(0, size));
    if (status.ok()) FAIL("accepted after a cut at byte " << size);
    const bool corrupt = status.code() == Code::kCorrupt;
    if (!corrupt || !status.message().starts_with("M.gguf: ")) FAIL(status.message());
  }
}

TEST_CASE("damaged files: every flipped bit of the header and 5,000 random flips after it") {
  std::string file = valid_file();
  const std::size_t header = file.find("splitee.exit.2.classifier.bias") + 100;
  const auto flip_and_open = [&](std::size_t bit) {
    const auto mask = static_cast<char>(1 << bit % 8);
    file[bit / 8] = static_cast<char>(file[bit / 8] ^ mask);
    const bool accepted = open_bytes(file).ok();
    file[bit / 8] = static_cast<char>(file[bit / 8] ^ mask);
    if (accepted) FAIL("accepted with bit " << bit << " flipped");
  };
  for (std::size_t bit = 0; bit < 8 * header; ++bit) flip_and_open(bit);
  std::mt19937 random(81);
  for (int i = 0; i < 5000; ++i) {
    flip_and_open(8 * header + random() % (8 * (file.size() - header)));
  }
  CHECK(open_bytes(file).ok());
}

TEST_CASE("damaged files: random damage with a right hash is refused or loads, and never crashes") {
  const std::string file = valid_file();
  const std::size_t header = file.find("splitee.exit.2.classifier.bias") + 100;
  std::mt19937 random(83);
  for (int i = 0; i < 3000; ++i) {
    std::string bad = file;
    for (std::size_t n = 1 + random() % 3; n > 0; --n) {
      const std::size_t at = random() % header;
      // Bytes that sizes and types are made of come more often than others.
      bad[at] = static_cast<char>(random() % 2 == 0 ? random() % 16 : random());
    }
    fix_content_hash(bad);
    const Status status = open_bytes(bad);
    if (!status.ok() && !status.message().starts_with("M.gguf: ")) FAIL(status.message());
  }
}

TEST_CASE("damaged files: swapped tensors of equal shape are found by the hash") {
  std::string file = valid_file();
  const std::size_t q = file.find("blk.0.attn_q.bias"), k = file.find("blk.0.attn_k.bias");
  std::swap(file[q + 11], file[k + 11]);
  const Status status = open_bytes(file);
  CHECK(status.code() == Code::kCorrupt);
  CHECK(status.message().find("hash") != std::string::npos);
}

TEST_CASE("damaged files: many tiny tensors and keys cost memory and time in proportion") {
  FileSpec spec = random_model({});
  for (int i = 0; i < 20000; ++i) {
    spec.tensors.push_back({"t" + std::to_string(i), {1}, kTensorI8, "x", {}, {}});
    spec.keys.push_back({"k" + std::to_string(i), kU8, "x"});
  }
  const Status status = open_bytes(build(spec));
  CHECK(status.code() == Code::kUnsupported);
  CHECK(status.message().find("tensor t0 has no place") != std::string::npos);
}

TEST_CASE("damaged files: more keys than the cap, though the file holds them") {
  FileSpec spec = random_model({});
  for (int i = 0; i < 100000; ++i) spec.keys.push_back({"k" + std::to_string(i), kU8, "x"});
  const Status status = open_bytes(build(spec));
  CHECK(status.code() == Code::kCorrupt);
  CHECK(status.message().find("over 100000") != std::string::npos);
}

TEST_CASE("damaged files: hostile paths") {
  const TempFolder folder;
  const auto& kernels = *splitee::kernels::find_target("scalar");
  const auto open = [&](const std::string& path) {
    return BertNetwork::open(path, kernels).status();
  };
  CHECK(open(folder.path()).code() == Code::kInvalidArgument);
  CHECK(open("/dev/zero").code() == Code::kInvalidArgument);
  CHECK(open(folder.file("none")).code() == Code::kNotFound);
  const std::string path = folder.file("model.gguf");
  std::ofstream(path).close();
  CHECK(open(path).message() == path + ": the file is empty");
  // Sparse, 1 TiB: refused by its first bytes.
  std::filesystem::resize_file(path, std::uintmax_t{1} << 40);
  CHECK(open(path).code() == (sizeof(std::size_t) == 8 ? Code::kCorrupt : Code::kUnsupported));
}
