#include "tools/edge/sysfs.h"

#include <algorithm>
#include <fstream>

namespace splitee::tools {

namespace fs = std::filesystem;

std::string read_word(const fs::path& path) {
  std::ifstream file(path);
  std::string word;
  file >> word;
  return word;
}

std::optional<double> read_number(const fs::path& path) {
  std::ifstream file(path);
  double value = -1;
  if (!(file >> value) || !(value >= 0 && value < 1e18)) return std::nullopt;
  return value;
}

std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> paths;
  std::error_code error;
  fs::directory_iterator it(folder, error);
  for (; !error && it != fs::directory_iterator(); it.increment(error)) paths.push_back(it->path());
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace splitee::tools
