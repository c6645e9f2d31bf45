// What a model reads after open(): only what is used, and never what was not checked.
#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file.h"
#include "runtime/bert/engine.h"
#include "runtime/file/model_bytes.h"
#include "runtime/file/page_memory.h"
#include "tests/base/temp_folder.h"
#include "tests/runtime/model_builder.h"

using namespace splitee;
using namespace splitee::runtime;
using splitee::testing::TempFolder;
using namespace splitee::runtime::testing;

namespace {

constexpr std::size_t kBlock = ModelBytes::kBlock;

// Some layers of several blocks each, so that they can be changed apart.
const ModelShape kLarge{.layers = 3,
                        .hidden = 192,
                        .heads = 2,
                        .ffn = 256,
                        .positions = 8,
                        .classes = 2,
                        .exit_layers = {1, 2, 3},
                        .seed = 9};
const std::vector<std::int32_t> kIds = {2, 7, 3}, kTypes = {0, 0, 0};

const splitee::kernels::Kernels& best() {
  return *splitee::kernels::find_target("");
}

void overwrite(const std::string& path, std::size_t offset, const std::string& bytes) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(offset));
  file << bytes;
}

std::size_t address_space_bytes() {
  std::size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

// Whether memory beyond RLIMIT_AS is refused.
bool limit_is_held(const rlimit& before) {
  const rlimit now{address_space_bytes(), before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_AS, &now) == 0);
  const auto memory = PageMemory::allocate(std::size_t{64} << 20, PageMemory::Use::kSparse);
  REQUIRE(::setrlimit(RLIMIT_AS, &before) == 0);
  return !memory.ok();
}

// A model file on disk, opened, and what it answers when nobody touches it.
struct Opened {
  explicit Opened(const ModelShape& shape = kLarge) : bytes(build(random_model(shape))) {
    REQUIRE(write_file_atomically(path, as_bytes(bytes)).ok());
    const auto model_in_memory = BertNetwork::from_bytes("M", as_bytes(bytes), best());
    REQUIRE(model_in_memory.ok());
    expected = answers(*model_in_memory, 3);
    const auto result = BertNetwork::open(path, best());
    REQUIRE_MESSAGE(result.ok(), result.status().message());
    model = *result;
  }
  // Offset of a tensor's data, found through the container.
  std::size_t place(const std::string& tensor) const {
    return Gguf::parse("M", as_bytes(bytes))->find_tensor(tensor)->offset;
  }
  static std::vector<float> answers(const std::shared_ptr<const BertNetwork>& of,
                                    std::size_t exits) {
    BertEngine engine(of);
    REQUIRE(engine.begin(kIds, kTypes).ok());
    std::vector<float> all;
    for (std::size_t exit = 0; exit < exits; ++exit) {
      const Status status = engine.run_to(exit + 1);
      REQUIRE_MESSAGE(status.ok(), status.message());
      const auto found = engine.evaluate_exit(exit);
      all.insert(all.end(), found.begin(), found.end());
    }
    return all;
  }

  TempFolder folder;
  std::string path = folder.file("m.gguf");
  std::string bytes;
  std::vector<float> expected;
  std::shared_ptr<const BertNetwork> model;
};

}  // namespace

TEST_CASE(
    "BertNetwork: what is read late answers as what is read at once, by any number of threads") {
  const Opened opened;
  std::vector<std::vector<float>> found(4);
  std::vector<std::thread> threads;
  for (auto& answer : found) {
    threads.emplace_back([&] { answer = Opened::answers(opened.model, 3); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& answer : found) CHECK(answer == opened.expected);
}

TEST_CASE("BertNetwork: a file replaced by rename is still the one that was opened") {
  const Opened opened;
  ModelShape other = kLarge;
  other.seed = 10;
  const std::string bytes = build(random_model(other));
  REQUIRE(write_file_atomically(opened.path, as_bytes(bytes)).ok());
  CHECK(Opened::answers(opened.model, 3) == opened.expected);
}

TEST_CASE("BertNetwork: a layer that changed after open() is refused; those before it answer") {
  const Opened opened;
  const std::size_t at = opened.place("blk.1.ffn_down.weight") + kBlock;
  const std::string before = opened.bytes.substr(at, 4);
  overwrite(opened.path, at, raw(0.5f));
  BertEngine engine(opened.model);
  REQUIRE(engine.begin(kIds, kTypes).ok());
  REQUIRE(engine.run_to(1).ok());
  CHECK(engine.evaluate_exit(0)[0] == opened.expected[0]);
  const Status status = engine.run_to(3);
  CHECK(status.code() == Code::kCorrupt);
  CHECK(status.message().starts_with(opened.path + ": "));
  CHECK(status.message().find("changed after the file was opened") != std::string::npos);
  // The sample stays where it was, and goes on once the bytes are back.
  CHECK(engine.layer() == 1);
  CHECK(engine.evaluate_exit(0)[0] == opened.expected[0]);
  overwrite(opened.path, at, before);
  REQUIRE(engine.run_to(3).ok());
  CHECK(engine.evaluate_exit(2)[0] == opened.expected[4]);
}

TEST_CASE("BertNetwork: cut off at random places while it is used, an error or the right answer") {
  std::mt19937 random(23);
  int answers = 0, errors = 0;
  for (int i = 0; i < 30; ++i) {
    const Opened opened;
    const std::size_t layers = random() % 4;
    if (layers > 0) REQUIRE(opened.model->load(0, layers).ok());
    std::filesystem::resize_file(opened.path, random() % opened.bytes.size());
    BertEngine engine(opened.model);
    Status status = engine.begin(kIds, kTypes);
    if (status.ok()) status = engine.run_to(3);
    if (status.ok()) {
      ++answers;
      CHECK(engine.evaluate_exit(2)[0] == opened.expected[4]);
    } else {
      ++errors;
      CAPTURE(status.message());
      CHECK(status.code() == Code::kIo);
      CHECK(status.message().find(": cut off at byte") != std::string::npos);
    }
  }
  CHECK(errors > 0);
}

TEST_CASE("BertNetwork: cut off while it is opened, an error or a model") {
  const std::string bytes = build(random_model(kLarge));
  const TempFolder folder;
  const std::string path = folder.file("m.gguf");
  std::mt19937 random(29);
  for (int i = 0; i < 20; ++i) {
    REQUIRE(write_file_atomically(path, as_bytes(bytes)).ok());
    std::atomic<bool> go{false};
    std::thread cutter([&, size = random() % bytes.size(), spins = random() % 20000] {
      while (!go) std::this_thread::yield();
      for (std::atomic<std::uint_fast32_t> spin{0}; spin < spins; ++spin) {
      }
      std::filesystem::resize_file(path, size);
    });
    go = true;
    const auto model = BertNetwork::open(path, best());
    cutter.join();
    if (!model.ok()) CHECK(model.status().message().starts_with(path + ": "));
  }
}

TEST_CASE("BertNetwork: a word embedding is read when its word first occurs") {
  ModelShape shape = kLarge;
  shape.vocab = 700;  // eight blocks
  const Opened opened(shape);
  const std::size_t rows = opened.place("token_embd.weight");
  const std::size_t row_bytes = 192 * sizeof(float);
  CHECK(Opened::answers(opened.model, 1)[0] == opened.expected[0]);
  overwrite(opened.path, rows + 650 * row_bytes, raw(0.5f));
  BertEngine engine(opened.model);
  CHECK(engine.begin(kIds, kTypes).ok());
  const Status status = engine.begin(std::vector<std::int32_t>{2, 650, 3}, kTypes);
  CHECK(status.code() == Code::kCorrupt);
  CHECK(status.message().find("changed after the file was opened") != std::string::npos);
  CHECK(engine.begin(kIds, kTypes).ok());
}

TEST_CASE("BertNetwork: an exit that nobody wants is not read") {
  const Opened opened;
  const std::size_t at = opened.place("splitee.exit.1.pooler.weight");
  const std::string before = opened.bytes.substr(at, 4);
  BertEngine engine(opened.model);
  REQUIRE(engine.begin(kIds, kTypes).ok());
  overwrite(opened.path, at, raw(0.5f));
  REQUIRE(engine.run_to(1, /*exit_wanted=*/false).ok());
  CHECK(engine.run_to(1).code() == Code::kCorrupt);
  overwrite(opened.path, at, before);
  REQUIRE(engine.run_to(1).ok());
  CHECK(engine.evaluate_exit(0)[0] == opened.expected[0]);
}

TEST_CASE("BertNetwork: layers read by open() answer as those read late, and are not read again") {
  const Opened opened;
  for (const std::size_t preload : {std::size_t{1}, std::size_t{2}, kAllLayers}) {
    CAPTURE(preload);
    const auto model = BertNetwork::open(opened.path, best(), {.preload = preload});
    REQUIRE(model.ok());
    // The exits before the last one that was preloaded, and the words.
    for (std::size_t exit = 1; exit < std::min(preload, std::size_t{3}); ++exit) {
      REQUIRE((*model)->load(exit, exit).ok());
    }
    REQUIRE(BertEngine(*model).begin(kIds, kTypes).ok());
    for (const char* tensor : {"blk.0.attn_q.weight", "blk.1.ffn_down.weight"}) {
      overwrite(opened.path, opened.place(tensor) + kBlock, raw(0.5f));
    }
    BertEngine engine(*model);
    REQUIRE(engine.begin(kIds, kTypes).ok());
    CHECK(engine.run_to(1).ok());
    CHECK(engine.run_to(2).ok() == (preload > 1));
    REQUIRE(write_file_atomically(opened.path, as_bytes(opened.bytes)).ok());
    if (preload == kAllLayers) CHECK(Opened::answers(*model, 3) == opened.expected);
  }
}

TEST_CASE("BertNetwork: damage is found by open(), whatever it reads") {
  const Opened opened;
  for (const char* tensor : {"token_embd.weight", "blk.0.attn_q.weight", "blk.2.ffn_up.weight"}) {
    for (const std::size_t preload : {std::size_t{0}, std::size_t{1}, kAllLayers}) {
      CAPTURE(tensor);
      CAPTURE(preload);
      const auto open = [&](const std::string& bytes) {
        REQUIRE(write_file_atomically(opened.path, as_bytes(bytes)).ok());
        return BertNetwork::open(opened.path, best(), {.preload = preload}).status();
      };
      std::string changed = opened.bytes;
      changed[opened.place(tensor)] ^= 1;
      const Status damage = open(changed);
      CHECK(damage.code() == Code::kCorrupt);
      CHECK(damage.message().find("the content's hash is") != std::string::npos);
      changed.replace(opened.place(tensor), 4, raw(std::nanf("")));
      fix_content_hash(changed);
      const Status not_finite = open(changed);
      CHECK(not_finite.code() == Code::kCorrupt);
      CHECK(not_finite.message().find("tensor " + std::string(tensor) + " holds a value") !=
            std::string::npos);
    }
  }
}

TEST_CASE("BertNetwork: load_all() reads everything, so that the file may go") {
  const Opened opened;
  REQUIRE(opened.model->load_all().ok());
  std::filesystem::resize_file(opened.path, 0);
  CHECK(Opened::answers(opened.model, 3) == opened.expected);
}

TEST_CASE("BertNetwork: not enough memory is an error, wherever it is met") {
  if (address_space_bytes() >> 40 != 0) {
    MESSAGE("skipped: a sanitizer takes terabytes of addresses");
    return;
  }
  rlimit before;
  REQUIRE(::getrlimit(RLIMIT_AS, &before) == 0);
  if (!limit_is_held(before)) {
    MESSAGE("skipped: nobody holds the limit of addresses, as under qemu-user");
    return;
  }
  const Opened opened;
  // Memory that is in use now counts, so that the limit goes down from there on.
  int failures = 0;
  for (std::size_t spare = std::size_t{64} << 20; spare > 65536; spare -= spare / 8) {
    const rlimit limit{address_space_bytes() + spare, before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_AS, &limit) == 0);
    const auto model = BertNetwork::open(opened.path, best());
    const Status status = model.ok() ? (*model)->load_all() : model.status();
    REQUIRE(::setrlimit(RLIMIT_AS, &before) == 0);
    if (status.ok()) continue;
    ++failures;
    CAPTURE(status.message());
    CHECK(status.code() == Code::kIo);
    CHECK(status.message().starts_with(opened.path + ": not enough memory"));
  }
  CHECK(failures > 0);
}
