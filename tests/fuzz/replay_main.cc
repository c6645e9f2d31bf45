// Runs a fuzz target without libFuzzer: over its seeds and random changes of them, or over files.
//   TARGET [--mutations N]        each seed, and N changes of each (default 200, always the same)
//   TARGET --write-seeds FOLDER   writes the seeds as files, to start libFuzzer with
//   TARGET FILE_OR_FOLDER...      runs these inputs
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

#include "base/rng.h"
#include "tests/fuzz/fuzz.h"

using splitee::Rng;

namespace {

namespace fs = std::filesystem;

std::size_t inputs = 0;

void run(const std::string& input) {
  ++inputs;
  // A copy of its own, so that a sanitizer sees every byte read beyond its end.
  const std::vector<std::uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

void run_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  run({std::istreambuf_iterator<char>(file), {}});
}

std::string change(std::string input, Rng& rng) {
  const auto place = [&] {
    return input.empty() ? 0 : rng.below(static_cast<std::uint32_t>(input.size()));
  };
  for (std::uint32_t n = 1 + rng.below(4); n > 0; --n) {
    const std::size_t at = place();
    switch (rng.below(5)) {
      case 0:
        if (!input.empty()) input[at] = static_cast<char>(input[at] ^ (1 << rng.below(8)));
        break;
      case 1:
        if (!input.empty()) input[at] = static_cast<char>(rng.next());
        break;
      case 2:
        input.erase(at, 1 + rng.below(8));
        break;
      case 3:
        input.insert(at, std::string(1 + rng.below(8), static_cast<char>(rng.next())));
        break;
      default:
        input.insert(place(), input.substr(at, rng.below(16)));
        break;
    }
  }
  return input;
}

void run_seeds(std::uint32_t mutations) {
  for (const std::string& seed : splitee::fuzz::seeds()) {
    run(seed);
    for (std::uint32_t i = 0; i < mutations; ++i) {
      Rng rng(i);
      std::string changed = change(seed, rng);
      if (i % 16 != 0) splitee::fuzz::repair(changed);
      run(changed);
    }
  }
}

void write_seeds(const fs::path& folder) {
  std::size_t number = 0;
  fs::create_directories(folder);
  for (const std::string& seed : splitee::fuzz::seeds()) {
    std::ofstream(folder / ("seed_" + std::to_string(number++)), std::ios::binary) << seed;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string first = argc > 1 ? argv[1] : "";
  if (first == "--write-seeds" && argc == 3) {
    write_seeds(argv[2]);
    return 0;
  }
  if (argc == 1 || first == "--mutations") {
    run_seeds(argc == 3 ? static_cast<std::uint32_t>(std::stoul(argv[2])) : 200);
  } else {
    for (int i = 1; i < argc; ++i) {
      if (!fs::is_directory(argv[i])) {
        run_file(argv[i]);
        continue;
      }
      for (const auto& entry : fs::directory_iterator(argv[i])) run_file(entry.path());
    }
  }
  std::cout << inputs << " inputs\n";
}
